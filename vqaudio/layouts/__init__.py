from vqaudio.layouts.batches import TokenBatch as TokenBatch
from vqaudio.layouts.flat import CoarseFirst as CoarseFirst, Flat as Flat
from vqaudio.layouts.index_map import TokenError as TokenError
from vqaudio.layouts.layout import Layout as Layout
from vqaudio.layouts.reading import Problem as Problem, Reading as Reading, TokenWarning as TokenWarning
from vqaudio.layouts.space import TokenSpace as TokenSpace
from vqaudio.layouts.split import Split as Split, SplitTokens as SplitTokens
from vqaudio.layouts.stacked import Delay as Delay, Parallel as Parallel
