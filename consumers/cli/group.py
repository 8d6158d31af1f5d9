"""Groups of commands: their help, and commands whose modules are loaded when they are called."""

import gc
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Grouped", "Lazy"]


class Grouped(TyperGroup):
    """A group of commands whose help has a section for each group of them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections, in the order in which the commands were added."""
        groups = dict[str, list[tuple[str, str]]]()
        widest = max(map(len, self.commands))
        for name, command in self.commands.items():
            sentence = " ".join((command.help or "").partition("\n\n")[0].split())
            panel: str | None = getattr(command, "rich_help_panel", None)
            groups.setdefault(panel or "Commands", []).append((f"{name:<{widest}}", sentence))
        for group_name, rows in groups.items():
            with formatter.section(group_name):
                formatter.write_dl(rows)


class Lazy(TyperCommand):
    """A command, or a group of them, that is loaded when it is called or completed."""

    def __init__(self, name: str, target: str, group: str, sentence: str) -> None:
        super().__init__(name, help=sentence, rich_help_panel=group)
        #: `module:attribute`.
        self.target = target

    def load(self) -> Any:
        """Load the command from its module. Raises ModuleNotFoundError: a package is missing."""
        module, _, attribute = self.target.partition(":")
        gc.disable()
        try:
            command = getattr(import_module(module), attribute)
        finally:
            # Modules stay: looking for garbage among what they hold takes a tenth of the start.
            gc.freeze()
            gc.enable()
        shell = typer.Typer(rich_markup_mode=None)
        if isinstance(command, typer.Typer):
            shell.add_typer(command, name=self.name, cls=Grouped)
        else:
            shell.command(self.name)(command)
        return typer.main.get_group(shell).commands[self.name or ""]

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Load the command for a call of it, and make its context."""
        return self.load().make_context(*args, **kwargs)
