"""People of varied pose and dress, drawn from limbs in metres."""

import math
from dataclasses import dataclass

from chipfit.tasks.canvas import Colour, Dice, Place, Point, shade

SKIN: tuple[Colour, ...] = (
    (244, 212, 188), (226, 182, 150), (204, 154, 118), (168, 118, 84), (126, 84, 58), (84, 56, 42),
)  # fmt: skip
HAIR: tuple[Colour, ...] = (
    (28, 24, 22), (56, 40, 30), (98, 68, 42), (160, 124, 74), (206, 176, 120), (150, 146, 142), (140, 66, 34),
)  # fmt: skip
POSES = ("stand", "stand", "stand", "walk", "walk", "walk", "sit", "sit", "bend", "lie")


@dataclass(frozen=True, slots=True)
class Look:
    """What a person wears and how tall they are (1.0 is 1.7 m)."""

    height: float
    breadth: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    long_sleeves: bool
    skirt: bool
    from_behind: bool
    cap: bool
    stripes: bool


def random_look(dice: Dice) -> Look:
    top = dice.colour()
    return Look(
        height=dice.uniform(0.88, 1.1) if dice.chance(0.85) else dice.uniform(0.55, 0.8),
        breadth=dice.uniform(0.85, 1.25),
        skin=shade(dice.pick(SKIN), dice.uniform(0.9, 1.06)),
        hair=shade(dice.pick(HAIR), dice.uniform(0.8, 1.2)),
        top=top,
        legs=top if dice.chance(0.15) else dice.colour(),
        shoes=shade(dice.colour(), 0.6),
        long_sleeves=dice.chance(0.65),
        skirt=dice.chance(0.2),
        from_behind=dice.chance(0.12),
        cap=dice.chance(0.15),
        stripes=dice.chance(0.2),
    )


def draw_person(place: Place, mark: int, dice: Dice, floor: Colour) -> None:
    """One person whose feet (or seat, or side) touch the floor at `place`, marked `mark`."""
    look = random_look(dice)
    pose = dice.pick(POSES)
    scale = place.unit * look.height
    lean = dice.uniform(-7, 7)
    if pose == "lie":
        lean = dice.sign() * dice.uniform(74, 98)
        place.shadow(1.6 * look.height, floor)
        # The body turns about its feet: move them so that the middle lies at the place.
        along = math.copysign(0.8 * scale, lean)
        foot = Place(place.canvas, place.x + along, place.y - 0.1 * scale, scale)
    else:
        place.shadow(0.6 * look.height, floor)
        foot = Place(place.canvas, place.x, place.y, scale)
    body = foot.turned(lean, mark)
    if pose == "sit":
        _seat(foot, dice)
    turn = dice.uniform(0.55, 1.0)
    hip, shoulder = _legs(body, look, pose, turn, dice)
    _upper_body(body, look, pose, hip, shoulder, turn, dice)


def _seat(place: Place, dice: Dice) -> None:
    """A plain chair under a sitting person."""
    colour = dice.colour()
    for x in (-0.2, 0.2):
        place.box(x - 0.02, 0, x + 0.02, 0.45, shade(colour, 0.7))
    place.box(-0.23, 0.4, 0.23, 0.46, colour)
    if dice.chance(0.7):
        place.box(-0.22, 0.46, 0.22, dice.uniform(0.8, 1.0), shade(colour, 0.85))


def _legs(body: Place, look: Look, pose: str, turn: float, dice: Dice) -> tuple[Point, Point]:
    """Draw both legs; give the middle of the hips and of the shoulders."""
    side = dice.sign()
    width = 0.13 * look.breadth
    spread = 0.09 * turn
    if pose == "sit":
        hip, reach = (0.0, 0.52), side * dice.uniform(0.02, 0.42)
        knees = [(reach + dx, 0.5 - 0.1 * (1 - abs(reach))) for dx in (-spread, spread)]
        feet = [(knee[0] + side * dice.uniform(-0.12, 0.14), 0.04) for knee in knees]
    else:
        hip = (0.0, 0.86)
        stride = dice.uniform(0.12, 0.34) if pose == "walk" else dice.uniform(0.0, 0.08)
        knees = [(-spread - stride * 0.45, 0.46), (spread + stride * 0.5, 0.48)]
        feet = [(-spread - stride, 0.04), (spread + stride * 0.7, 0.04)]
    for index, (knee, foot) in enumerate(zip(knees, feet, strict=True)):
        start = (hip[0] + (spread if index else -spread) * 0.9, hip[1])
        colour = shade(look.legs, 0.82 if index else 1.0)
        if look.skirt and pose != "sit":
            body.limb((knee, foot), width * 0.75, shade(look.skin, 0.82 if index else 1.0))
        else:
            body.limb((start, knee, foot), width, colour)
        body.limb((foot, (foot[0] + side * 0.1, foot[1] - 0.005)), 0.08, look.shoes)
    if look.skirt and pose != "sit":
        hem = dice.uniform(0.35, 0.55)
        half = 0.2 * look.breadth
        body.polygon(((-half * 0.7, 0.9), (half * 0.7, 0.9), (half * 1.3, hem), (-half * 1.3, hem)), look.legs)
    bend = side * (dice.uniform(0.25, 0.5) if pose == "bend" else dice.uniform(-0.04, 0.08))
    length = 0.52
    rise = math.sqrt(length * length - bend * bend)
    return hip, (hip[0] + bend, hip[1] + rise)


def _upper_body(body: Place, look: Look, pose: str, hip: Point, shoulder: Point, turn: float, dice: Dice) -> None:
    half = 0.2 * turn * look.breadth
    waist = 0.155 * (0.5 + turn / 2) * look.breadth
    arms = [_arm(shoulder, sign * half, pose, dice) for sign in (-1, 1)]
    _draw_arm(body, look, arms[0], 0.78)
    left, right = (shoulder[0] - half, shoulder[1] - 0.03), (shoulder[0] + half, shoulder[1] - 0.03)
    torso = (left, (shoulder[0], shoulder[1] + 0.04), right, (hip[0] + waist, hip[1] - 0.04))
    body.polygon((*torso, (hip[0] - waist, hip[1] - 0.04)), look.top)
    middle = ((shoulder[0] + hip[0]) / 2, (shoulder[1] + hip[1]) / 2)
    body.polygon((right, (hip[0] + waist, hip[1]), middle), shade(look.top, 0.86))
    if look.stripes:
        for step in (0.2, 0.45, 0.7):
            x, y = shoulder[0] + (hip[0] - shoulder[0]) * step, shoulder[1] + (hip[1] - shoulder[1]) * step
            body.box(x - waist, y - 0.02, x + waist, y + 0.02, shade(look.top, 0.65))
    _head(body, look, shoulder, hip, dice)
    _draw_arm(body, look, arms[1], 1.0)


def _arm(shoulder: Point, offset: float, pose: str, dice: Dice) -> tuple[Point, Point, Point]:
    """Shoulder, elbow and hand; angles are measured from hanging straight down."""
    start = (shoulder[0] + offset, shoulder[1] - 0.05)
    outward = 1 if offset > 0 else -1
    raised = dice.chance(0.15)
    upper = dice.uniform(90, 165) if raised else dice.uniform(-12, 45)
    lower = upper + (dice.uniform(-20, 70) if raised or dice.chance(0.5) else dice.uniform(-100, 10))
    if pose == "bend":
        upper, lower = upper * 0.4, lower * 0.4
    elbow = _swing(start, outward * upper, 0.29)
    return start, elbow, _swing(elbow, outward * lower, 0.27)


def _swing(start: Point, degrees: float, length: float) -> Point:
    angle = math.radians(degrees)
    return start[0] + round(math.sin(angle), 6) * length, start[1] - round(math.cos(angle), 6) * length


def _draw_arm(body: Place, look: Look, arm: tuple[Point, Point, Point], gain: float) -> None:
    start, elbow, hand = arm
    width = 0.095 * look.breadth
    body.limb((elbow, hand), width * 0.8, shade(look.top if look.long_sleeves else look.skin, gain))
    body.limb((start, elbow), width, shade(look.top, gain))
    body.disc(hand[0], hand[1], 0.05, 0.05, shade(look.skin, gain))


def _head(body: Place, look: Look, shoulder: Point, hip: Point, dice: Dice) -> None:
    lean = (shoulder[0] - hip[0]) * 0.45 + dice.uniform(-0.05, 0.05)
    x, y = shoulder[0] + lean, shoulder[1] + 0.2 - abs(lean) * 0.25
    # Small people have large heads.
    radius = 0.13 * (1.25 if look.height < 0.8 else 1.0)
    neck = ((shoulder[0], shoulder[1]), (x, y - 0.05))
    body.limb(neck, 0.1, shade(look.skin, 0.85))
    if look.from_behind:
        body.disc(x, y, radius, radius * 1.22, look.hair)
        return
    long_hair = dice.chance(0.4)
    if long_hair:
        body.disc(x, y - 0.04, radius * 1.2, radius * 1.6, shade(look.hair, 0.85))
    body.disc(x, y + 0.03, radius * 1.05, radius * 1.15, look.top if look.cap else look.hair)
    face = dice.uniform(-0.03, 0.03)
    body.disc(x + face, y - 0.03, radius * 0.85, radius, look.skin)
    for eye in (-0.035, 0.035):
        body.disc(x + face * 1.6 + eye, y - 0.01, 0.014, 0.014, shade(look.skin, 0.35))
