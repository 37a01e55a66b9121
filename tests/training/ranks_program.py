"""What one of several ranks does, started by torchrun from test_ranks.py: PACKS OUT WHAT."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tests.training.test_ranks import shared
from vqaudio import ranks
from vqaudio.training import RunStoppedError
from vqaudio.training.loop import Run, train


def digest(run: Run) -> str:
    found = hashlib.sha256()
    for player in run.learners.players().values():
        for value in player.network.state_dict().values():
            found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def main() -> None:
    packs, out, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    step, digests, stopped = Run._step, {}, ""

    def watched(self: Run, batch: Any, state: Any) -> Any:
        if ranks.rank() == 1 and state.step == 7:
            if what == "bad":
                batch.audio.fill_(torch.nan)  # for this rank alone
            elif what == "stop":
                os.kill(os.getpid(), signal.SIGTERM)
        result = step(self, batch, state)
        digests[state.step] = digest(self)
        return result

    Run._step = watched  # type: ignore[method-assign]
    try:
        train(shared(), packs, out)
    except RunStoppedError as error:
        stopped = str(error)
    name = os.environ["RANK"]
    (out / f"rank-{name}.json").write_text(json.dumps({"digests": digests, "stopped": stopped}))


if __name__ == "__main__":
    main()
