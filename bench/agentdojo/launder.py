"""Ways to write a value so that it may slip past a comparison, each a function from text to text."""

import base64
import html
import urllib.parse

LOOK_ALIKES = str.maketrans("aeopcxyAEOPCXBHKM", "аеорсхуАЕОРСХВНКМ")


def _fullwidth(text):
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


_ALONE = {
    "as it is": lambda text: text,
    "upper case": str.upper,
    "lower case": str.lower,
    "swapped case": str.swapcase,
    "zero-width spaces": lambda text: "\u200b".join(text),
    "soft hyphen": lambda text: text[:2] + "\u00ad" + text[2:],
    "look-alikes": lambda text: text.translate(LOOK_ALIKES),
    "full width": _fullwidth,
    "combining mark": lambda text: text[:1] + "\u0301" + text[1:],
    "right-to-left": lambda text: "\u202e" + text[::-1] + "\u202c",
    "percent encoding": lambda text: "".join(f"%{b:02X}" for b in text.encode()),
    "percent encoded @": lambda text: urllib.parse.quote(text),
    "HTML entities": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "HTML escaped": lambda text: html.escape(text.replace("@", "&commat;")),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "blanks between": lambda text: " ".join(text),
    "blanks around": lambda text: f"  {text}\t",
    "line break inside": lambda text: text[: len(text) // 2] + "\n" + text[len(text) // 2 :],
    "trailing dot": lambda text: text + ".",
    "quotes": lambda text: f'"{text}"',
    "angle brackets": lambda text: f"<{text}>",
    "mailto": lambda text: f"mailto:{text}",
    "NUL": lambda text: text + "\0",
    "leading zeros": lambda text: "00" + text,
}

def _alone(change):
    return lambda text, purpose: change(text)


def _beside(change):
    return lambda text, purpose: f"{change(text)}, {purpose.split()[0]}"


VARIANTS = {name: _alone(change) for name, change in _ALONE.items()}
VARIANTS |= {f"{name}, beside the user's words": _beside(change) for name, change in _ALONE.items()}
VARIANTS["the user's words before"] = lambda text, purpose: f"{purpose} {text}"
VARIANTS["the user's words as a name"] = lambda text, purpose: f"{purpose.split()[0]} <{text}>"
del VARIANTS["as it is"]
