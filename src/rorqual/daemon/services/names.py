"""Names for containers that were given none: adjective_surname."""

from __future__ import annotations

import random
import re
from collections.abc import Container

from rorqual.errdefs import InvalidArgument

# Temper and bearing.
_ADJECTIVES_TEXT = """
    able agile amber ample ardent artful astute avid balmy blithe bold brave bright brisk calm candid careful
    cheery civil clever cordial cosy crisp curious dapper daring deft eager earnest easy elated fair famed
    fearless fine fond frank fresh gallant genial gentle glad golden grand handy happy hardy hearty honest
    humble jaunty jolly jovial keen kind lasting lively loyal lucid lucky mellow merry mild mindful modest
    neat nimble noble open patient placid plucky polite proud prudent quick quiet ready regal robust rosy sage
    serene sharp sincere smart snug sober spry stable steady sterling stoic sunny supple swift tender thrifty
    tidy tranquil trim true trusty upbeat valiant vivid warm wise witty worthy zealous zesty
"""
_ADJECTIVES = _ADJECTIVES_TEXT.split()

# People of the sea, of whales and of navigation.
_SURNAMES_TEXT = """
    amundsen baret baudin beaufort beebe bering bowditch cabot carson cartier challenger cook cousteau crozier
    darwin diaz drake earle elcano ericson fiennes fitzroy flinders franklin frobisher halley harrison hass
    hudson humboldt joubert lemaire lind magellan mahe maury mawson melville mercator messina murray nansen
    nares nemo norgay orellana park parry payne piccard polo pytheas ross sabine scoresby shackleton slocum
    spry tasman tharp torres vancouver vespucci wallis walsh weddell wilkes worsley
"""
_SURNAMES = _SURNAMES_TEXT.split()

_VALID = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


def check(name: str) -> str:
    """`name` without its leading slash. Raises: InvalidArgument with Docker's text."""
    bare = name[1:] if name.startswith("/") else name
    if not _VALID.match(bare):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def generate(taken: Container[str]) -> str:
    """A name that isn't `taken`."""
    attempt = 0
    while True:
        name = f"{random.choice(_ADJECTIVES)}_{random.choice(_SURNAMES)}"
        if attempt:
            name += str(random.randrange(10 ** (1 + attempt // 10)))
        if name not in taken:
            return name
        attempt += 1
