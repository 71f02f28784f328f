"""Furniture, and things that could be taken for a person: same colours, same heights, round tops, drooping cloth."""

import math
from collections.abc import Callable

from chipfit.tasks.canvas import Colour, Dice, Place, mix, shade
from chipfit.tasks.people import SKIN

Drawer = Callable[[Place, Dice, Colour], None]


def table(place: Place, dice: Dice, floor: Colour) -> None:
    colour, half, top = dice.colour(), dice.uniform(0.4, 0.9), dice.uniform(0.5, 0.8)
    place.shadow(half * 2, floor)
    for x in (-half + 0.05, half - 0.05):
        place.box(x - 0.03, 0, x + 0.03, top, shade(colour, 0.7))
        place.box(x * 0.8 - 0.025, 0.12, x * 0.8 + 0.025, top, shade(colour, 0.5))
    place.polygon(((-half, top), (half, top), (half * 0.85, top + 0.16), (-half * 0.85, top + 0.16)), colour)
    place.box(-half, top - 0.06, half, top, shade(colour, 0.78))
    for _ in range(dice.integer(0, 3)):
        x, height = dice.uniform(-half * 0.8, half * 0.8), dice.uniform(0.08, 0.35)
        place.box(x - 0.06, top + 0.06, x + 0.06, top + 0.06 + height, dice.colour())
        if dice.chance(0.4):
            place.disc(x, top + 0.1 + height, 0.1, 0.1, dice.colour())


def chair(place: Place, dice: Dice, floor: Colour) -> None:
    colour, back = dice.colour(), dice.uniform(0.8, 1.1)
    place.shadow(0.6, floor)
    lean = dice.uniform(-0.08, 0.08)
    for x in (-0.2, 0.2):
        place.limb(((x, 0), (x, 0.45), (x + lean, back)), 0.045, shade(colour, 0.7))
    place.box(-0.24, 0.4, 0.24, 0.48, colour)
    place.polygon(((-0.2, 0.6), (0.2, 0.6), (0.2 + lean, back), (-0.2 + lean, back)), shade(colour, 0.88))
    if dice.chance(0.5):
        _draped(place, dice, back, lean)


def _draped(place: Place, dice: Dice, back: float, lean: float) -> None:
    """A jacket over the backrest: shoulders, sleeves and sometimes a hat, but nobody inside."""
    cloth, half = dice.colour(), dice.uniform(0.22, 0.3)
    top = back + 0.05
    body = ((lean - half, top - 0.06), (lean, top + 0.03), (lean + half, top - 0.06))
    place.polygon((*body, (half * 0.9, 0.4), (-half * 0.9, 0.4)), cloth)
    for sign in (-1, 1):
        elbow = (lean + sign * (half + dice.uniform(0, 0.08)), top - 0.35)
        place.limb(((lean + sign * half * 0.9, top - 0.1), elbow, (elbow[0] - sign * 0.04, top - 0.6)), 0.09, cloth)
    if dice.chance(0.15):
        _ball(place, dice, lean, top + 0.12)


def _ball(place: Place, dice: Dice, x: float, y: float) -> None:
    """A hat, cushion or helmet, where a head could be; sometimes of the colour of skin or hair."""
    colour = shade(dice.pick(SKIN), dice.uniform(0.8, 1.0)) if dice.chance(0.15) else dice.colour()
    place.disc(x, y, dice.uniform(0.09, 0.14), dice.uniform(0.08, 0.14), colour)
    if dice.chance(0.5):
        place.disc(x, y + 0.04, 0.12, 0.08, shade(dice.colour(), 0.6))


def cupboard(place: Place, dice: Dice, floor: Colour) -> None:
    colour, half, top = dice.colour(), dice.uniform(0.25, 0.7), dice.uniform(0.8, 2.1)
    place.shadow(half * 2.1, floor)
    side = dice.sign() * dice.uniform(0.05, 0.2)
    place.polygon(((half, 0), (half + side, 0.1), (half + side, top + 0.05), (half, top)), shade(colour, 0.6))
    place.polygon(((-half, 0), (-half + side, 0.1), (-half + side, top + 0.05), (-half, top)), shade(colour, 0.7))
    place.box(-half, 0, half, top, colour)
    rows = dice.integer(1, 4)
    for row in range(rows):
        low, high = top * row / rows + 0.04, top * (row + 1) / rows - 0.04
        if dice.chance(0.35):
            place.box(-half + 0.05, low, half - 0.05, high, shade(colour, 0.45))
            for x in (-0.6, -0.2, 0.25, 0.6):
                tall = low + (high - low) * dice.uniform(0.4, 0.9)
                place.box(half * x - 0.06, low, half * x + 0.06, tall, dice.colour())
        else:
            place.box(-half + 0.04, low, -0.02, high, shade(colour, 0.9))
            place.box(0.02, low, half - 0.04, high, shade(colour, 1.08))


def sofa(place: Place, dice: Dice, floor: Colour) -> None:
    colour, half = dice.colour(), dice.uniform(0.6, 1.1)
    place.shadow(half * 2.2, floor)
    place.box(-half, 0.3, half, dice.uniform(0.75, 0.95), shade(colour, 0.85))
    place.box(-half, 0.08, half, 0.42, colour)
    for sign in (-1, 1):
        place.limb(((sign * half, 0.12), (sign * half, 0.55)), 0.2, shade(colour, 0.75))
    for _ in range(dice.integer(0, 3)):
        x = dice.uniform(-half * 0.8, half * 0.8)
        place.disc(x, 0.55, dice.uniform(0.12, 0.22), 0.16, dice.colour())
    if dice.chance(0.35):
        _heap(place, dice, 0.45, half * 0.8)


def _heap(place: Place, dice: Dice, base: float, half: float) -> None:
    """Blankets and laundry: long, soft, of several colours, like somebody lying."""
    x = -half
    cloth = dice.colour()
    while x < half:
        radius = dice.uniform(0.1, 0.2)
        cloth = cloth if dice.chance(0.6) else dice.colour()
        place.disc(x + radius, base + radius * 0.5, radius * 1.4, radius * 0.9, shade(cloth, dice.uniform(0.8, 1.1)))
        x += radius * 1.5
    if dice.chance(0.5):
        _ball(place, dice, dice.sign() * half, base + 0.1)


def laundry(place: Place, dice: Dice, floor: Colour) -> None:
    half = dice.uniform(0.4, 0.85)
    place.shadow(half * 2, floor)
    _heap(place, dice, 0.08, half)
    for _ in range(dice.integer(0, 2)):
        x = dice.uniform(-half, half)
        place.limb(((x, 0.1), (x + dice.uniform(-0.5, 0.5), 0.05)), 0.11, dice.colour())


def lamp(place: Place, dice: Dice, floor: Colour) -> None:
    top, pole = dice.uniform(1.2, 1.75), shade(dice.colour(), 0.7)
    place.shadow(0.4, floor)
    place.disc(0, 0.03, 0.16, 0.05, pole)
    place.limb(((0, 0.03), (dice.uniform(-0.08, 0.08), top * 0.5), (0, top)), dice.uniform(0.03, 0.08), pole)
    glow = mix(dice.colour(), (255, 238, 196), dice.uniform(0.2, 0.95))
    if dice.chance(0.5):
        place.disc(0, top, 0.15, 0.16, glow)
    else:
        place.polygon(((-0.2, top - 0.12), (0.2, top - 0.12), (0.1, top + 0.16), (-0.1, top + 0.16)), glow)


def plant(place: Place, dice: Dice, floor: Colour) -> None:
    pot, leaf = dice.colour(), mix((70, 104, 58), dice.colour(), 0.3)
    height = dice.uniform(0.7, 1.7)
    place.shadow(0.5, floor)
    place.polygon(((-0.13, 0), (0.13, 0), (0.18, 0.32), (-0.18, 0.32)), pot)
    place.limb(((0, 0.3), (0, height * 0.8)), 0.04, shade(leaf, 0.6))
    if dice.chance(0.35):
        place.disc(0, height, 0.2, 0.22, leaf)
        place.disc(0.04, height * 0.62, 0.24, 0.26, shade(leaf, 0.8))
        return
    for _ in range(dice.integer(5, 9)):
        angle = math.radians(dice.uniform(-75, 75))
        length = dice.uniform(0.25, 0.6) * height
        tip = (round(math.sin(angle), 6) * length, 0.3 + round(math.cos(angle), 6) * length + height * 0.25)
        place.limb(((0, 0.3 + height * 0.2), tip), dice.uniform(0.05, 0.1), shade(leaf, dice.uniform(0.7, 1.2)))


def coat_stand(place: Place, dice: Dice, floor: Colour) -> None:
    pole, top = shade(dice.colour(), 0.6), dice.uniform(1.5, 1.85)
    place.shadow(0.5, floor)
    for x in (-0.2, 0.2):
        place.limb(((0, 0.15), (x, 0.02)), 0.04, pole)
    place.limb(((0, 0.05), (0, top)), 0.05, pole)
    for _ in range(dice.integer(1, 3)):
        cloth, x = dice.colour(), dice.uniform(-0.12, 0.12)
        high, low = top - dice.uniform(0.15, 0.4), dice.uniform(0.4, 0.9)
        half = dice.uniform(0.14, 0.24)
        corners = ((x - half, high - 0.07), (x, high + 0.06), (x + half, high - 0.07))
        place.polygon((*corners, (x + half * 1.15, low), (x - half * 1.15, low)), cloth)
        sleeve = x + dice.sign() * half
        place.limb(((sleeve, high - 0.08), (sleeve * 1.2, high - 0.55)), 0.1, shade(cloth, 0.85))
    if dice.chance(0.3):
        _ball(place, dice, dice.uniform(-0.06, 0.06), top + 0.04)


def dress_form(place: Place, dice: Dice, floor: Colour) -> None:
    """A tailor's dummy: a dressed torso on a pole, without head, arms or legs."""
    cloth, half = dice.colour(), dice.uniform(0.16, 0.21)
    place.shadow(0.45, floor)
    place.limb(((0, 0.02), (0, 0.9)), 0.05, (70, 56, 46))
    place.disc(0, 0.03, 0.18, 0.05, (60, 48, 40))
    if dice.chance(0.5):
        place.polygon(((-half * 0.8, 0.95), (half * 0.8, 0.95), (half * 1.6, 0.4), (-half * 1.6, 0.4)), dice.colour())
    waist = half * 0.75
    right = ((half, 1.36), (waist, 1.1), (half * 0.95, 0.86))
    left = ((-half * 0.95, 0.86), (-waist, 1.1), (-half, 1.36))
    place.polygon(((-0.06, 1.44), (0.06, 1.44), *right, *left), cloth)
    place.disc(0, 1.47, 0.055, 0.05, dice.pick((cloth, dice.pick(SKIN))))


def stool_with_ball(place: Place, dice: Dice, floor: Colour) -> None:
    """Boxes and a ball piled up: the outline of a sitting or small person."""
    place.shadow(0.5, floor)
    top = 0.0
    for _ in range(dice.integer(1, 3)):
        half, height = dice.uniform(0.14, 0.28), dice.uniform(0.2, 0.5)
        place.box(-half, top, half, top + height, dice.colour())
        top += height
    _ball(place, dice, dice.uniform(-0.08, 0.08), top + 0.11)


FURNISHINGS: tuple[Drawer, ...] = (table, chair, cupboard, sofa, lamp, plant, table, cupboard)
LOOKALIKES: tuple[Drawer, ...] = (coat_stand, dress_form, chair, chair, lamp, plant, laundry, stool_with_ball)
