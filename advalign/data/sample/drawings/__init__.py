"""The catalog of things the sample can draw: 36 categories in 12 superclasses, six animate and six not.

Every drawing function takes a `Canvas` and a random generator, and draws its object in [-1, 1]^2 with the canvas's
shapes. A new category is one function beside its relatives and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from advalign.data.sample.canvas import Canvas
from advalign.data.sample.drawings.bird import duck, owl, songbird
from advalign.data.sample.drawings.carnivore import bear, cat, lion
from advalign.data.sample.drawings.clothing import hat, shirt, shoe
from advalign.data.sample.drawings.dog import hound, shepherd, terrier
from advalign.data.sample.drawings.food import burger, icecream, pizza
from advalign.data.sample.drawings.furniture import cabinet, chair, table
from advalign.data.sample.drawings.insect import bee, beetle, butterfly
from advalign.data.sample.drawings.musical_instrument import drum, guitar, piano
from advalign.data.sample.drawings.primate import gorilla, lemur, monkey
from advalign.data.sample.drawings.reptile import lizard, snake, turtle
from advalign.data.sample.drawings.structure import bridge, castle, house
from advalign.data.sample.drawings.wheeled_vehicle import bicycle, bus, car

DrawingFunction = Callable[[Canvas, np.random.Generator], None]


@dataclass(frozen=True)
class Category:
    """A kind of thing.

    Attributes:
        name: what it is, unique.
        superclass: what it is a kind of.
        animate: whether it is an animal.
        draw: draws one example.
    """

    name: str
    superclass: str
    animate: bool
    draw: DrawingFunction


def _kinds_of(superclass: str, *functions: DrawingFunction, animate: bool) -> tuple[Category, ...]:
    return tuple(Category(function.__name__, superclass, animate, function) for function in functions)


CATEGORIES: tuple[Category, ...] = (
    *_kinds_of("dog", hound, shepherd, terrier, animate=True),
    *_kinds_of("bird", songbird, duck, owl, animate=True),
    *_kinds_of("reptile", snake, turtle, lizard, animate=True),
    *_kinds_of("carnivore", cat, bear, lion, animate=True),
    *_kinds_of("insect", butterfly, beetle, bee, animate=True),
    *_kinds_of("primate", monkey, gorilla, lemur, animate=True),
    *_kinds_of("structure", house, castle, bridge, animate=False),
    *_kinds_of("clothing", shirt, shoe, hat, animate=False),
    *_kinds_of("wheeled_vehicle", car, bus, bicycle, animate=False),
    *_kinds_of("musical_instrument", guitar, drum, piano, animate=False),
    *_kinds_of("food", burger, pizza, icecream, animate=False),
    *_kinds_of("furniture", chair, table, cabinet, animate=False),
)

SUPERCLASSES: tuple[str, ...] = tuple(dict.fromkeys(category.superclass for category in CATEGORIES))
