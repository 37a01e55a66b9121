"""The report of an evaluation: one page that needs nothing else, and its figures as files."""

from vqaudio.evaluation.report.folder import is_evaluation as is_evaluation
from vqaudio.evaluation.report.page import PAGE_NAME as PAGE_NAME, write_report as write_report
