# make demo    code the clips in samples/ and decode them again
# make test    run the tests       make lint    style       make types   static types
# make clean   remove all that these made, the virtual environment included
PYTHON ?= python3
VENV := .venv
MUSIC := $(wildcard samples/music*)
SPEECH := $(filter-out $(MUSIC),$(sort $(wildcard $(addprefix samples/*.,flac mp3 ogg opus wav))))

.PHONY: demo test lint types clean

demo: $(VENV)/installed
	$(VENV)/bin/vqaudio reconstruct $(SPEECH) --out demo-output
	$(VENV)/bin/vqaudio reconstruct $(MUSIC) --model music-44k --out demo-output
	@echo "The reconstructions are in demo-output/; the originals are in samples/."

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -q -n auto --dist loadfile

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(VENV)/installed-dev
	$(VENV)/bin/mypy vqaudio

clean:
	rm -rf $(VENV) demo-output quickstart-output build dist vqaudio.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find vqaudio tests samples -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is newer than what was installed from; changing either file installs again, into the same environment.
$(VENV)/installed: pyproject.toml constraints.txt
	$(make_environment)
	$(VENV)/bin/python -m pip install -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt
	$(make_environment)
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $(VENV)/installed $@

define make_environment
@command -v $(PYTHON) >/dev/null || { \
	echo "No $(PYTHON) here. Name a Python of 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "vqaudio needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
		"name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
@test -x $(VENV)/bin/pip || { \
	echo "Making $(VENV); the first installation downloads about 3 GB, nearly all of it PyTorch."; \
	$(PYTHON) -m venv --clear $(VENV); }
endef
