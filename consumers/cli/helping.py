"""How help is laid out: commands in groups, each with its whole sentence."""

from typing import Any

from typer.core import TyperGroup

__all__ = ["Grouped"]


class Grouped(TyperGroup):
    """A group of commands whose help has a section for each group of them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The sections, in the order in which the commands were added."""
        groups = dict[str, list[tuple[str, str]]]()
        widest = max(map(len, self.commands))
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            sentence = " ".join((command.help or "").partition("\n\n")[0].split())
            group = groups.setdefault(command.rich_help_panel or "Commands", [])
            group.append((f"{name:<{widest}}", sentence))
        for group_name, rows in groups.items():
            with formatter.section(group_name):
                formatter.write_dl(rows)
