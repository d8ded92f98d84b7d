"""The sentences of the corpus: a small grammar of home control, numbers, times and dates, in words without digits.

Everything is drawn from one `random.Random`, so that a seed repeats the sentences.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Collection

ONES = "zero one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
MILLION = 1_000_000
NUM_DRAWN = 40

CHOICES = {
    "room": "kitchen|bedroom|bathroom|living room",
    "device": "light|lights|heater|fan|radio",
    "opening": "door|window",
    "color": "red|green|blue",
    "music": "jazz|music|the radio",
    "day": "monday|tuesday|wednesday|thursday|friday|saturday|sunday",
    "month": "january|february|march|april|may|june|july|august|september|october|november|december",
    "when": "today|tomorrow|on {day}",
    "part": "in the morning|in the evening",
    "on or off": "on|off",
    "open or close": "open|close|lock",
    "up or down": "up|down",
    "sound": "music|alarm|timer|radio",
}

# Weight and template. What stands in braces is one of the choices above or a quantity from QUANTITIES.
TEMPLATES = (
    (3.0, "turn {on or off} the {room} {device}"),
    (1.5, "turn the {device} in the {room} {on or off}"),
    (1.0, "please turn {on or off} all the lights in the {room}"),
    (1.5, "{open or close} the {opening} in the {room}"),
    (0.5, "please {open or close} the {room} {opening}"),
    (2.0, "set the {room} temperature to {degrees} degrees"),
    (2.0, "dim the {room} lights to {percent} percent"),
    (1.5, "turn the volume {up or down} by {percent} percent"),
    (1.0, "set the {room} lights to {color}"),
    (1.0, "play {music} in the {room}"),
    (1.0, "stop the {sound} in the {room}"),
    (2.5, "set a timer for {duration}"),
    (2.5, "set an alarm for {time}"),
    (2.0, "wake me up {when} at {time}"),
    (1.0, "what is the weather {when}"),
    (0.5, "what is the temperature in the {room}"),
    (2.0, "it is {time}"),
    (1.5, "{day} the {ordinal} of {month}"),
    (1.5, "the {ordinal} of {month} {year}"),
    (1.5, "{month} the {ordinal} {year}"),
    (3.0, "the number is {number}"),
    (2.0, "{number}"),
    (1.0, "add {number} and {number}"),
    (1.5, "call the number {digits}"),
)


def number_words(number: int) -> str:
    """`number` from zero to a million in words, without "and".

    Example:
        >>> number_words(240_017)
        'two hundred forty thousand seventeen'
    """
    if number == MILLION:
        return "one million"
    if number >= 1000:
        rest = f" {number_words(number % 1000)}" if number % 1000 else ""
        return f"{number_words(number // 1000)} thousand{rest}"
    if number >= 100:
        rest = f" {number_words(number % 100)}" if number % 100 else ""
        return f"{ONES[number // 100]} hundred{rest}"
    if number >= 20:
        return TENS[number // 10 - 2] + (f" {ONES[number % 10]}" if number % 10 else "")
    return [*ONES, *TEENS][number]


def ordinal_words(number: int) -> str:
    """`number` from one to thirty one as an ordinal in words.

    Example:
        >>> ordinal_words(23)
        'twenty third'
    """
    if number <= len(ORDINALS):
        return ORDINALS[number - 1]
    return "thirtieth" if number == 30 else f"{number_words(number // 10 * 10)} {ORDINALS[number % 10 - 1]}"


def year_words(year: int) -> str:
    """`year` as it is spoken, by two digits at a time, of which the second two are ten or more.

    Example:
        >>> year_words(1994), year_words(2015)
        ('nineteen ninety four', 'twenty fifteen')
    """
    return f"{number_words(year // 100)} {number_words(year % 100)}"


def _any_number(generator: random.Random) -> str:
    """A number up to a million; all magnitudes are alike frequent, a million itself is drawn now and then."""
    digits = generator.choice((2, 3, 3, 4, 5, 6, 6, 7))
    number = MILLION if digits == 7 else generator.randrange(10 ** (digits - 1), 10**digits)
    if digits > 4 and generator.random() < 0.5:
        number = number // 1000 * 1000
    return number_words(number)


def _time(generator: random.Random) -> str:
    hour, minute = number_words(generator.randint(1, 12)), number_words(generator.randint(10, 59))
    half_day = generator.choice(("a m", "p m"))
    kinds = (
        generator.choice(("noon", "midnight")),
        f"{hour} {{part}}",
        f"quarter past {hour}",
        f"half past {hour}",
        f"{hour} {half_day}",
        f"{hour} {minute} {half_day}",
        f"{hour} {minute} {half_day}",
    )
    return generator.choice(kinds)


def _duration(generator: random.Random) -> str:
    some, few = number_words(generator.randint(2, 59)), number_words(generator.randint(2, 12))
    return generator.choice((f"{some} minutes", f"{some} seconds", f"{few} hours", f"{few} hours and {some} minutes"))


QUANTITIES: dict[str, Callable[[random.Random], str]] = {
    "degrees": lambda generator: number_words(generator.randint(14, 30)),
    "percent": lambda generator: number_words(generator.choice((*range(5, 100, 5), 100, generator.randint(1, 99)))),
    "number": _any_number,
    "digits": lambda generator: " ".join(generator.choice(ONES) for _ in range(generator.randint(3, 7))),
    "time": _time,
    "duration": _duration,
    "ordinal": lambda generator: ordinal_words(generator.randint(1, 31)),
    "year": lambda generator: year_words(generator.choice((*range(1910, 2000), *range(2010, 2030)))),
}


def sentence(generator: random.Random) -> str:
    """One sentence of the grammar."""
    weights = [weight for weight, _ in TEMPLATES]
    text = generator.choices([template for _, template in TEMPLATES], weights)[0]
    while match := re.search(r"\{([^}]+)\}", text):
        name = match[1]
        words = QUANTITIES[name](generator) if name in QUANTITIES else generator.choice(CHOICES[name].split("|"))
        text = text[: match.start()] + words + text[match.end() :]
    return text


def vocabulary() -> frozenset[str]:
    """All words that the grammar speaks, found by drawing many sentences."""
    generator = random.Random(0)
    return frozenset(word for _ in range(40_000) for word in sentence(generator).split())


def draw(
    number: int, generator: random.Random, *, words: range, each_word: int = 0, unlike: Collection[str] = ()
) -> list[str]:
    """`number` sentences whose counts of words lie in `words`, in random order.

    Args:
        number: how many.
        generator: the source of chance.
        words: which lengths are wanted.
        each_word: how often each word of the vocabulary must occur. As long as some are missing, the best of several
            sentences is taken, and a sentence may come again for a missing word's sake; else all sentences differ.
        unlike: sentences that must not come.

    Raises:
        ValueError: so many sentences of these lengths do not say each word so often.
    """
    found: list[str] = []
    taken = set(unlike)
    missing = Counter(dict.fromkeys(sorted(vocabulary()), each_word))

    def need(text: str) -> int:
        return sum(max(missing[word], 0) for word in text.split())

    while len(found) < number:
        drawn = [sentence(generator) for _ in range(NUM_DRAWN if +missing else 1)]
        usable = [text for text in drawn if len(text.split()) in words and (text not in taken or need(text))]
        if usable:
            best = max(usable, key=need)
            missing.subtract(best.split())
            taken.add(best)
            found.append(best)
    if +missing:
        raise ValueError(f"{number} sentences do not say each of {sorted(+missing)} {each_word} times")
    generator.shuffle(found)
    return found
