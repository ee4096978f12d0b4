"""The smallest recipe: one question, one field. Tests of the runner use it so that only the runner can be wrong."""

from dataclasses import dataclass

from workbench import prompts
from workbench.llm import ask
from workbench.records import Failure, Instruction

PROMPT = prompts.freeze(
    "test/echo",
    [("system", "Answer."), ("user", "{{text}}")],
    variables={"text": "data"},
    outputs={"answer": "str: the answer"},
    repair=False,
)


@dataclass(frozen=True)
class Task:
    text: str
    prompt: object = PROMPT


async def make(task, client):
    answer = await ask(client, task.prompt, {"text": task.text})
    if isinstance(answer, Failure):
        return answer
    return Instruction(task.text, output=answer["answer"], provenance=answer.provenance("echo"))


def tasks(count):
    return [Task(f"text {number}") for number in range(count)]


def answer(text):
    return f"[[ ## answer ## ]]\n{text}"


def echo(body):
    """A server's or Scripted's reply: what was asked, in capitals."""
    messages = body["messages"] if isinstance(body, dict) else body.messages
    return answer(messages[-1]["content"].split("\n")[1].upper())
