"""A small pipeline for the terminal app's tests: four steps, one parameter, metrics, and a step that can be told to fail or to wait."""

from __future__ import annotations

from worlds import World

PIPELINE = """
rate = PipelineParameter('rate', 0.5, minimum=0, maximum=9)
raw = Dataset.File.from_files('data/raw.csv').as_named_input('raw').as_mount()
cleaned, model, scores = PipelineData('cleaned'), PipelineData('model'), PipelineData('scores')
clean = PythonScriptStep('clean.py', name='clean', source_directory='src', arguments=[raw, cleaned], inputs=[raw], outputs=[cleaned])
train = PythonScriptStep('train.py', name='train', source_directory='src', arguments=[cleaned, model, rate], inputs=[cleaned], outputs=[model])
score = PythonScriptStep('score.py', name='score', source_directory='src', arguments=[model, scores], inputs=[model], outputs=[scores])
profile = PythonScriptStep('profile.py', name='profile', source_directory='src', arguments=[cleaned], inputs=[cleaned])
pipeline = Pipeline(ws, steps=[clean, train, score, profile], name='churn')
"""


def small(world: World) -> World:
    world.write("mlpipe.toml", '[project]\nname = "churn"\n')
    world.write("data/raw.csv", "a,b\n1,2\n3,4\n")
    world.write("src/clean.py", "import sys, shutil\nprint('cleaning')\nshutil.copyfile(sys.argv[1], sys.argv[2])\n")
    world.write("src/train.py", "import sys\nfrom mlpipe_run import Run\nrun = Run.get_context()\nfor at in range(6):\n"
                "    run.log('auc', float(sys.argv[3]) * (at + 1) / 6)\nprint('trained with', sys.argv[3])\n"
                "open(sys.argv[2], 'w').write(sys.argv[3])\n")  # fmt: skip
    world.write("src/score.py", "import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read())\n")
    world.write("src/profile.py", "print('profiled')\n")
    world.define(PIPELINE)
    return world
