from vqaudio.training.loop import train as train, train_step as train_step
from vqaudio.training.recipe import Recipe as Recipe, load_recipe as load_recipe
