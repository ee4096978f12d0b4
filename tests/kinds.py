"""A recipe without a model that makes several kinds of record, with markup in its texts; one task in ten is lost."""

from workbench import runner
from workbench.llm import Scripted
from workbench.records import Failure, ImagePair, Instruction, Preference

EVIL = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"


async def make(number, client):
    if number % 10 == 9:
        return Failure("parse", "no JSON", raw=f"I <b>had</b> rather not {number}")
    good, bad = Instruction(f"ask {number}", output=f"short {number}"), Instruction(f"ask {number}", output=EVIL * 2)
    pair = Preference(f"ask {number}", good.output, bad.output, number % 5 / 2, 0.5)
    return [good, bad, pair, ImagePair(f"draw {number}", "a.png", "b.png")]


def run(folder, count=40):
    """A run in shards of ten tasks."""
    options = runner.Options(shard_tasks=10, progress=False)
    return runner.run(make, range(count), client=Scripted(""), out=folder, options=options)
