from vqaudio.training.loop import train as train
from vqaudio.training.recipe import Recipe as Recipe, load_recipe as load_recipe
from vqaudio.training.step import (
    Objective as Objective,
    Plan as Plan,
    Player as Player,
    train_step as train_step,
)
from vqaudio.training.stopping import RunFailedError as RunFailedError, RunStoppedError as RunStoppedError
