"""`tierline init`: a folder with a policy, prompts and settings of one's own."""

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from typer import Argument, Option

from consumers.amounts import counted
from consumers.cli.common import UserError
from consumers.files import read_text
from consumers.policy_file import shipped
from consumers.rules import read_folder
from consumers.texts import say
from router.policy.load import load_policy
from router.policy.table import Policy
from router.policy.yaml_text import read_yaml
from router.prompts.lock import LOCK_FILE, lock_text, parts_of
from router.prompts.rendering import Prompts

__all__ = ["init"]

_WHOLE, _SIMULATED = "support", "simulated"
_POLICY, _SCHEMA = "deploy/policy/routing.yaml", "routing-policy.json"
_SETTINGS = """\
# The settings of this deployment: `. ./settings.sh` sets them, `tierline settings` explains them.
# Without a Kafka of your own, `tierline up` starts one.
# export TIERLINE_KAFKA__BOOTSTRAP=kafka:9092
"""


def init(
    folder: Annotated[Path, Argument(metavar="[FOLDER]", help="Write it here.")] = Path(),
    preset: Annotated[str, Option(metavar="NAME", help="Start from it.")] = _WHOLE,
    provider: Annotated[str, Option(metavar="NAME", help="Ask its models.")] = _SIMULATED,
) -> None:
    """Write a policy, prompts and settings of your own, which `up` and `policy check` then use.

    A preset is a small policy (`--preset list` names them all); by default it is the shipped one.
    A provider is openai, anthropic, gemini or, by default, simulated. Nothing is overwritten.
    """
    for there in (folder / "deploy", folder / "settings.sh"):
        if there.exists():
            msg = f"{there} is there already, and nothing was written: name another folder"
            raise UserError(msg)
    whole = {_WHOLE: shipped("policy") / "routing.yaml"}
    text = read_text(_named("preset", preset, shipped("presets"), whole))
    settings: dict[str, str] = {}
    if provider != _SIMULATED:
        models = _named("provider", provider, shipped("presets") / "models", {_SIMULATED: Path()})
        lineup, _, _ = read_yaml(read_text(models))
        text, settings = _with_models(text, lineup["models"]), lineup["settings"]
    text = re.sub(r"\$schema=\S+", f"$schema={_SCHEMA}", text, count=1)
    policy = load_policy(text, preset)
    prompts = dict(_prompts(policy))
    locked = lock_text(parts_of(Prompts.load(prompts).contracts, prompts, policy))
    variables = f"export TIERLINE_PROVIDERS__{provider.upper()}__"
    lines = (f"{variables}{name}={value}\n" for name, value in settings.items())
    written = {
        _POLICY: text,
        f"deploy/policy/{_SCHEMA}": (files("schemas") / "published" / _SCHEMA).read_text("utf-8"),
        "settings.sh": _SETTINGS + "".join(lines),
        **{f"deploy/prompts/{path}": prompt for path, prompt in prompts.items()},
        f"deploy/prompts/{LOCK_FILE}": locked,
    }
    for path, content in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("x", encoding="utf-8") as file:
            file.write(content)
    tasks = counted(len(policy.tasks), "task")
    say(f"{folder / _POLICY}: {tasks} for {provider} models; prompts and settings beside it")
    steps = [] if folder == Path() else [f"cd {shlex.quote(str(folder))}"]
    if settings:
        say("Look up the prices before you rely on them: `as_of` says when they were read.")
        steps += [f"export {settings['API_KEY_ENV']}=…", ". ./settings.sh"]
    say(f"Next: {' && '.join((*steps, 'tierline policy check', 'tierline up'))}")


def _named(option: str, name: str, folder: Path, others: Mapping[str, Path]) -> Path:
    """The file that an option names: one of a folder, or another. Raises UserError."""
    options = {**others, **{file.stem: file for file in sorted(folder.glob("*.yaml"))}}
    if name not in options:
        msg = f"--{option} {name}: one of {', '.join(options)} was expected"
        raise UserError(msg)
    return options[name]


def _with_models(text: str, models: Mapping[str, Any]) -> str:
    """A policy's text with a provider's models in place of the simulated ones, by their size."""

    def row(line: re.Match[str]) -> str:
        model = models[line[1]]
        fields = yaml.safe_dump(model, default_flow_style=True, sort_keys=False, width=1_000)
        return f"  {line[1]}: {fields.strip()}"

    # Every name of a simulated model says its size behind this.
    return re.sub(r"(?m)^  ([\w-]+): +\{provider: simulated,.*$", row, text.replace("sim-", ""))


def _prompts(policy: Policy) -> Iterator[tuple[str, str]]:
    """The files of the prompts that a policy's steps need."""
    steps = {"README.md", "_default", *policy.tasks, *(["classify"] if policy.classify else [])}
    steps |= {task.verify.prompt for task in policy.tasks.values() if task.verify}
    for folder in (shipped("prompts"), shipped("presets") / "prompts"):
        for path, text in read_folder(folder).items():
            if path.partition("/")[0] in steps:
                yield path, text
