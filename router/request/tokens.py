"""An estimate of how many tokens a text has."""

__all__ = ["estimate_tokens"]


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has, without a tokenizer.

    Latin text has about four characters per token; scripts with three or four bytes per character
    have one or two tokens per character. Bytes divided by four fit both within a factor of two.
    Text beyond ASCII is divided by three, on the high side: an error would overflow a context.
    """
    if text.isascii():
        return -(-len(text) // 4)

    return -(-len(text.encode("utf-8", "surrogatepass")) // 3)
