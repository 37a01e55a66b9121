from vqaudio.training.loop import train as train
from vqaudio.training.recipe import Recipe as Recipe, load_recipe as load_recipe
from vqaudio.training.step import Objective as Objective, train_step as train_step
