"""Thoughts: what a model writes for itself before it answers, separated from the answer."""

import re
from collections.abc import Iterator
from itertools import count, islice
from json import JSONDecodeError, JSONDecoder

__all__ = ["without_thoughts"]

_NAME = (
    r"(?:[a-z0-9]{1,16}+[:_.-]|ant)?(?:think(?:ing)?|thoughts?|reasoning|scratch[_-]?pad"
    r"|(?:inner|internal)[_-]?monologue|(?:chain|train)[_-]of[_-]thoughts?|cot)(?:[_-](?:process|fast|content|text|trace))?"
)
_BAR = "[|\uff5c]"
#: How models and chat templates mark a thought: as elements (R1, QwQ, Nemotron, Seed, LongCat), as
#: special tokens (Command, Sky, Gemma, MedGemma, Apertus), in brackets (Magistral) and in Kimi's
#: triangles; and how Open WebUI folds one away, see `_FOLDED`.
#: After a `<` each character is looked at once.
_TAGS = re.compile(
    r"<(?:(?P<slash>\\?+[ \t\n]{0,8}+/)?+[ \t\n]{0,8}+"
    rf"(?:{_BAR}(?:(?P<end>/|end[_\u2581](?:of[_\u2581])?+)|(?:start|begin)[_\u2581](?:of[_\u2581])?+)?+)?+"
    rf"(?=[a-z0-9]){_NAME}(?:(?P<ended>_end)|_start)?+(?P<rest>[ \t\n/|\uff5c][^<>]{{0,200}}+)?+>"
    r"|\|channel>(?P<channel>thought\b)|(?P<channels_end>channel\|>)"
    r"|\|inner_(?:prefix|(?P<inner_end>suffix))\|>"
    r"|unused9(?:4>(?P<unused>(?:thought\b)?+)|(?P<unused_end>5>)))"
    r"|\[(?P<bracket>/?+)(?:think|thinking|thoughts?|reasoning)\](?![(\[:])"
    r"|\u25c1(?P<triangle>/?+)think\u25b7",
    re.IGNORECASE,
)
#: Every tag contains one of these.
_WORDS = ("think", "thought", "reason", "scratch", "monolog", "cot", "channel", "unused9", "inner_")
_ENDS = ("slash", "end", "ended", "channels_end", "unused_end", "inner_end")
_TAGS_AND_FOLDS = re.compile(
    rf"</?details(?:[ \t\n][^<>]{{0,300}}+)?+>|{_TAGS.pattern}", re.IGNORECASE
)
#: A fold that holds a thought, in lower case.
_FOLDED = re.compile(
    r"<details(?:>\s{0,8}+<summary>\s{0,8}+(?:thought (?:for|process)|thinking)\b"
    r"|[^<>]{0,200}?[ \t\n]type ?= ?[\"']?(?:reasoning|thinking|thoughts?)\b)"
)
#: Words with other meanings too: thoughts only where a reply begins with them. Reflection, Hermes
#: and other models write them, and Open WebUI knows `reason`. The last ones may also be part of an
#: answer: they are thoughts only before an answer that is marked.
_ASIDE = re.compile(
    r"<[ \t]{0,8}+(?P<slash>/?+)[ \t]{0,8}+(?P<name>(?:self[_-]?)?reflect(?:ions?|ing)?|reason"
    r"|deliberation|introspection|(?P<unsure>analysis|plan(?:ning)?|execution|critique|internal))"
    r"(?:[ \t\n][^<>]{0,200}+)?+>",
    re.IGNORECASE,
)
#: Thoughts in words, from the very beginning to where the answer is announced: Ollama, Granite,
#: Apriel, harmony without its special tokens; and blocks of code with such a name.
_WORDED = tuple(
    (re.compile(opening), re.compile(answer))
    for opening, answer in (
        (r"Thinking\.\.\.\n", r"\n\.\.\.done thinking\.[ \t]*(?=\n|\Z)"),
        (r"Here(?: is|'s) my thought process:", r"Here(?: is|'s) my response:"),
        (r"Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),
        (
            r"(?:assistant)?analysis(?=[^\W\d_]|\W(?s:.*)assistantfinal)|(?=assistantfinal)",
            r"assistantfinal",
        ),
        (r"```(?:think(?:ing)?|thoughts?|reasoning)[ \t]*\n", r"\n```[ \t]*(?=\n|\Z)"),
    )
)
#: Harmony's messages: a header with the channel, and the message.
_HARMONY = re.compile(r"<\|(start|channel|message|end|return|call|constrain)\|>")
#: Solar's end of a thought, which is harmony's but for its beginning.
_SOLAR_END = "<|end|><|begin|>assistant<|content|>"
_CHANNELS = ("", "assistant", "analysis", "commentary", "final")
#: What may surround an answer that follows a thought.
_SPECIAL = re.compile(rf"<{_BAR}[a-zA-Z_\u2581]{{1,40}}{_BAR}>|\[END FINAL RESPONSE\]")
_SPECIALS = re.compile(rf"(?:{_SPECIAL.pattern}\s*+)*+")
_WRAPPED = re.compile(
    r"(?is)\s*+<(answer|final_answer|response|output|solution|conclusion)>(?P<answer>.*?)(?:</\1>|\Z)"
)

_FENCES = re.compile(r"(?m)^ {0,3}(`{3,}|~{3,})([^\n`]*)$")
_BLANKS = re.compile(r"\s*+")
_FENCED = re.compile(r"```[a-zA-Z]*+\s++")
_OBJECT = re.compile(r'\{\s*+"')
_PROBE = JSONDecoder(strict=False)
_OPENING_QUOTES, _CLOSING_QUOTES = "\"'`\u201c\u2018\u00ab\u201e", "\"'`\u201d\u2019\u00bb\u201c"
#: Between two tags that a sentence only mentions: "put it between <think> and </think>".
_NAMED_BETWEEN = frozenset(("", "and", "or", "to", "with", "your reasoning", "your reasoning here"))
#: With more tags, or more that might begin one, nobody can tell thought from answer.
_MOST_TAGS = 300
_MOST_OPENINGS, _CHARACTERS_EACH = 15_000, 7
_MOST_FENCES = 1_000
_MOST_TRIES = 50


def without_thoughts(text: str) -> tuple[str, str]:
    """The answer in what a model wrote, and its thoughts.

    Thoughts are cut out in every form in which models write them. An end without a beginning makes
    everything before it a thought, a beginning without an end everything after it. Tags in blocks
    of code, in quotes and in the texts of JSON are part of the answer. Where the answer cannot be
    told from the thoughts it is empty: an empty answer is rejected, a thought might be published.
    """
    begins = _asides_end(text)
    answer, thoughts = _outside(text[begins:])
    again = _asides_end(answer)
    if not begins and not again:
        return answer, thoughts
    return _unwrapped(answer[again:]), text[:begins] + thoughts + answer[:again]


def _asides_end(text: str) -> int:
    """Where the asides end that a reply begins with; 0 where it begins with none."""
    end = sure = closed = depth = 0
    name, is_sure = "", True
    tag = _aside_at(text, 0)
    if tag is not None and _has_too_many_openings(text):
        return len(text)
    for no in count():
        if tag is None:
            break
        if no == _MOST_TAGS:
            return len(text)
        if not depth:
            if tag["slash"]:
                break
            name, depth, closed = tag["name"].lower(), 1, 0
            is_sure = is_sure and not tag["unsure"]
        elif tag["name"].lower() == name:
            depth += -1 if tag["slash"] else 1
            closed = tag.end() if tag["slash"] else closed
            if not depth:
                end, sure = closed, closed if is_sure else sure
        tag = _ASIDE.search(text, tag.end()) if depth else _aside_at(text, tag.end())
    if depth and (closed or is_sure):  # without an end, or with a tag that it only mentions
        end = closed or len(text)
    return end if is_sure or _WRAPPED.match(text, end) else sure


def _aside_at(text: str, at: int) -> re.Match[str] | None:
    """The tag of an aside that follows there, after blanks."""
    blanks = _BLANKS.match(text, at)
    return _ASIDE.match(text, blanks.end() if blanks else at)


def _has_too_many_openings(text: str) -> bool:
    return text.count("<") > max(_MOST_OPENINGS, len(text) // _CHARACTERS_EACH)


def _outside(text: str) -> tuple[str, str]:
    """The text outside of the thoughts that are marked anywhere in it, and the thoughts."""
    reply = text.strip()
    if reply.startswith("<|think|>"):
        text = text.replace(_SOLAR_END, "<|/think|>", 1)
    for opening, answer in _WORDED:
        if opening.match(reply):
            begins = answer.search(reply)
            cut = begins.end() if begins else len(reply)
            return _unwrapped(reply[cut:]), reply[:cut]
    low = text.lower()
    is_marked = any(word in low for word in _WORDS)
    if is_marked and _has_too_many_openings(text):
        return "", text
    tags = list(islice(_tags_of(text), _MOST_TAGS + 1)) if is_marked else []
    harmony = _HARMONY.search(text) if "<|" in text else None
    if not tags and harmony is None:
        return text, ""
    if len(tags) > _MOST_TAGS:
        return "", text
    if reply[:1] in ("{", "[") and _is_json(reply):
        return text, ""
    fenced = _FENCED.match(reply)
    if (
        fenced
        and reply.count("```") == 2
        and reply.endswith("```")
        and (_TAGS.match(reply, fenced.end()) or _FOLDED.match(reply, fenced.end()))
    ):
        # A fence around the whole reply quotes nothing.
        return _outside(reply[fenced.end() : -3])
    if harmony is not None and not _Quoted(text).holds(harmony):
        final = _on_final(text)
        if final is not None:
            within = list(islice(_tags_of(final), _MOST_TAGS))
            return _cut(final, within)[0] if within else final, text
    return _cut(text, tags) if tags else (text, "")


def _cut(  # noqa: C901, PLR0912  one pass over the tags, each of which is one of a few
    text: str, tags: list[re.Match[str]]
) -> tuple[str, str]:
    """The text outside of pairs of tags, and the text inside."""
    quoted = _Quoted(text)
    kept: list[str] = []
    thoughts: list[str] = []
    at, depth = 0, 0
    opened = last = None
    for tag in tags:
        if quoted.holds(tag) or (not depth and quoted.is_in_json(tag)):
            continue
        if _is_fold(tag) != _is_fold(opened) if depth and opened else _is_plain_fold(text, tag):
            continue
        kind = _kind(tag)
        if kind == "empty":
            if not depth:
                kept.append(text[at : tag.start()])
                at = tag.end()
        elif kind == "opens":
            if not depth:
                opened, last = tag, None
            depth += 1
        elif depth:
            depth, last = depth - 1, tag
            if not depth and opened is not None:
                inner = text[opened.end() : tag.start()]
                if _is_named(text, opened, inner):
                    continue
                kept.append(text[at : opened.start()])
                thoughts.append(inner)
                at = quoted.read_to = tag.end()
        elif _is_within_sentence(text, tag) and re.match(r" [a-z]", text[tag.end() :][:2]):
            return "", text
        else:
            thoughts += [*kept, text[at : tag.start()]]
            kept.clear()
            at = quoted.read_to = tag.end()
    if depth and opened is not None:
        kept.append(text[at : opened.start()])
        # The thought only mentions a tag: the last end is the thought's.
        end = last.end() if last else len(text)
        thoughts.append(text[opened.end() : end])
        again = next((tag for tag in tags if _kind(tag) == "opens" and tag.start() >= end), None)
        if last is None and _is_within_sentence(text, opened):
            return "", text
        kept.append(text[end : again.start() if again else len(text)])
    else:
        kept.append(text[at:])
    if not thoughts and at == 0:
        return text, ""
    return _unwrapped("".join(kept)), "\n".join(thoughts)


def _tags_of(text: str) -> Iterator[re.Match[str]]:
    """The tags of a text; those of folds only where one of them holds a thought."""
    has_folds = _FOLDED.search(text.lower()) is not None
    return (_TAGS_AND_FOLDS if has_folds else _TAGS).finditer(text)


def _is_fold(tag: re.Match[str]) -> bool:
    return tag[0].lower().startswith(("<details", "</details"))


def _is_plain_fold(text: str, tag: re.Match[str]) -> bool:
    """True for a fold that holds no thought, and for the end of one."""
    begins = tag.start()
    return _is_fold(tag) and _FOLDED.match(text[begins : begins + 400].lower()) is None


def _kind(tag: re.Match[str]) -> str:
    is_end = _is_fold(tag) and tag[0][1] == "/"
    if is_end or any(tag[name] for name in _ENDS) or "/" in (tag["bracket"], tag["triangle"]):
        return "ends"
    return "empty" if (tag["rest"] or "").endswith("/") else "opens"


class _Quoted:
    """Which tags of a text are quoted. Asked in order, it looks at each character once or twice."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._blocks = list(_code_blocks(text))
        self._ticks, self._counted_to = 0, 0
        self._next_tick, self._next_line = 0, 0
        #: JSON is looked for from here on.
        self.read_to = 0
        self._within_to = 0
        self._tries, self._wasted = _MOST_TRIES, 0

    def holds(self, tag: re.Match[str]) -> bool:
        """True in a block of code, between backquotes and directly between quotes."""
        start, end = tag.span()
        while self._blocks and self._blocks[0][1] <= start:
            self._blocks.pop(0)
        if self._blocks and self._blocks[0][0] <= start:
            return True
        text = self._text
        before, after = text[start - 1 : start] if start else "", text[end : end + 1]
        if before and after:
            kind = _OPENING_QUOTES.find(before)
            if kind >= 0 and after == _CLOSING_QUOTES[kind]:
                return True
        return self._is_between_ticks(start, end)

    def _is_between_ticks(self, start: int, end: int) -> bool:
        text, counted = self._text, self._counted_to
        line = text.rfind("\n", counted, start)
        if line >= 0:
            self._ticks, counted = 0, line
        self._ticks += text.count("`", counted, start)
        self._counted_to = start
        if self._ticks % 2 == 0:
            return False
        if 0 <= self._next_tick < end:
            self._next_tick = text.find("`", end)
        if 0 <= self._next_line < end:
            self._next_line = text.find("\n", end)
        return self._next_tick >= 0 and not 0 <= self._next_line < self._next_tick

    def is_in_json(self, tag: re.Match[str]) -> bool:
        """True within an object that is whole."""
        start = tag.start()
        while self._within_to <= start and self._tries and self._wasted <= len(self._text):
            begins = _OBJECT.search(self._text, self.read_to, start)
            if begins is None:
                break
            self._tries -= 1
            try:
                _, self.read_to = _PROBE.raw_decode(self._text, begins.start())
                self._within_to = self.read_to
            except JSONDecodeError as error:
                self._wasted += error.pos - begins.start()
                self.read_to = begins.start() + 1
            except (RecursionError, ValueError):
                self._tries = 0
        return start < self._within_to


def _code_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where blocks of code begin and end; none where a fence has no counterpart."""
    fences = list(islice(_FENCES.finditer(text), _MOST_FENCES))
    if len(fences) % 2 or len(fences) == _MOST_FENCES:
        return
    opened = None
    for fence in fences:
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2].strip():
            yield opened.start(), fence.end()
            opened = None


def _is_json(text: str) -> bool:
    try:
        _, end = _PROBE.raw_decode(text)
    except (RecursionError, ValueError):
        return False
    return end == len(text)


def _is_within_sentence(text: str, tag: re.Match[str]) -> bool:
    before = text[max(0, tag.start() - 80) : tag.start()]
    line = before.rpartition("\n")[2]
    return line[-1:] == " " and (line.rstrip()[-1:].isalnum() or line.rstrip()[-1:] == ",")


def _is_named(text: str, opened: re.Match[str], inner: str) -> bool:
    """True for tags that a sentence only mentions: no thought is between them."""
    if len(inner) > 40 or not inner or not _is_within_sentence(text, opened):
        return False
    return bool(inner.strip()) and inner.strip(" .\u2026/,&+*-\"'`").lower() in _NAMED_BETWEEN


def _on_final(text: str) -> str | None:
    """Harmony's messages on the channel `final`; None where there are no messages."""
    before, *rest = _HARMONY.split(text)
    marks, pieces = rest[::2], rest[1::2]
    header = before.strip().lower()
    if header not in _CHANNELS and "message" not in marks:
        # The end of a turn alone.
        return before.strip() if set(marks) <= {"end", "return"} else None
    channel = header if marks[:1] == ["message"] else ""
    has_channels = bool(channel) or "channel" in marks
    answer = []
    for mark, piece in zip(marks, pieces, strict=True):
        if mark == "channel":
            channel = piece.strip().lower()
        elif mark == "start":
            channel = ""
        elif mark == "message" and (channel.startswith("final") or not has_channels):
            answer.append(piece)
    return "".join(answer).strip()


def _unwrapped(text: str) -> str:
    """An answer without the markers around it."""
    text = text.strip()
    if begins := _SPECIALS.match(text):
        text = text[begins.end() :]
    for ends in islice(_SPECIAL.finditer(text, max(0, len(text) - 200)), 20):
        if not _SPECIAL.sub("", text[ends.start() :]).strip():
            text = text[: ends.start()].rstrip()
            break
    wrapped = _WRAPPED.match(text)
    is_whole = wrapped is not None and wrapped.end() == len(text)
    return wrapped["answer"].strip() if wrapped and is_whole else text
