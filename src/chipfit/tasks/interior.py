"""The empty room: floor, walls in perspective, windows, curtains, doors and pictures."""

from dataclasses import dataclass

from chipfit.tasks.canvas import BACKGROUND, FLOOR, FURNITURE, Canvas, Colour, Dice, Place, mix, shade


@dataclass(frozen=True, slots=True)
class Room:
    """A room as the camera sees it; lengths in canvas pixels.

    left, right, top, bottom: edges of the back wall. horizon: the height of the camera's eye.
    """

    canvas: Canvas
    left: float
    right: float
    top: float
    bottom: float
    horizon: float
    camera_height_m: float
    floor: Colour
    wall: Colour

    def place(self, x: float, y: float) -> Place:
        """A spot on the floor; how large things are there follows from how far it lies below the horizon."""
        return Place(self.canvas, x, y, (y - self.horizon) / self.camera_height_m)


def draw_room(canvas: Canvas, dice: Dice) -> Room:
    side = canvas.side
    camera_height_m = dice.uniform(1.1, 2.1)
    horizon = side * dice.uniform(0.22, 0.48)
    bottom = horizon + side * dice.uniform(0.26, 0.42)
    unit = (bottom - horizon) / camera_height_m
    wall = mix(dice.colour(), (214, 206, 194), dice.uniform(0.2, 0.85))
    floor = mix(dice.colour(), (150, 124, 98), dice.uniform(0.1, 0.6))
    room = Room(
        canvas=canvas,
        left=side * dice.uniform(-0.3, 0.35),
        right=side * dice.uniform(0.65, 1.3),
        top=bottom - dice.uniform(2.3, 3.0) * unit,
        bottom=bottom,
        horizon=horizon,
        camera_height_m=camera_height_m,
        floor=floor,
        wall=wall,
    )
    _surfaces(room, dice)
    _boards(room, dice)
    for _ in range(dice.integer(1, 3)):
        _wall_item(room, dice)
    return room


def _surfaces(room: Room, dice: Dice) -> None:
    canvas, side = room.canvas, room.canvas.side
    left, right, top, bottom, wall = room.left, room.right, room.top, room.bottom, room.wall
    canvas.polygon(((0, 0), (side, 0), (side, side), (0, side)), room.floor, FLOOR)
    canvas.polygon(((0, 0), (side, 0), (side, top), (0, top)), mix(wall, (240, 238, 232), 0.6), BACKGROUND)
    reach = 1.5
    for edge, outer, gain in ((left, left - reach * side, 0.86), (right, right + reach * side, 0.76)):
        high, low = top - (room.horizon - top) * reach * 1.5, bottom + (bottom - room.horizon) * reach * 4
        canvas.polygon(((edge, top), (edge, bottom), (outer, low), (outer, high)), shade(wall, gain), BACKGROUND)
    canvas.polygon(((left, top), (right, top), (right, bottom), (left, bottom)), wall, BACKGROUND)
    if dice.chance(0.3):
        step = side * dice.uniform(0.04, 0.1)
        x = left + step
        while x < right:
            canvas.line(((x, top), (x, bottom)), step * 0.3, shade(wall, 0.93), BACKGROUND)
            x += step
    skirting = shade(wall, dice.uniform(0.6, 1.15))
    canvas.line(((left, bottom), (right, bottom)), side * 0.012, skirting, BACKGROUND)


def _boards(room: Room, dice: Dice) -> None:
    """Lines of planks that run to the vanishing point, and perhaps a rug."""
    canvas, side = room.canvas, room.canvas.side
    if dice.chance(0.6):
        centre, gain = side * dice.uniform(0.3, 0.7), dice.uniform(0.86, 1.1)
        spread = (side * 1.1 - room.horizon) / (room.bottom - room.horizon)
        count = dice.integer(5, 11)
        for index in range(count):
            far = room.left + (room.right - room.left) * (index + 0.5) / count
            near = centre + (far - centre) * spread
            canvas.line(((far, room.bottom + 1), (near, side * 1.1)), side / 120, shade(room.floor, gain), FLOOR)
    if dice.chance(0.4):
        x, y = side * dice.uniform(0.2, 0.8), side * dice.uniform(0.75, 0.95)
        radius = side * dice.uniform(0.15, 0.4)
        rug = mix(dice.colour(), room.floor, dice.uniform(0, 0.5))
        canvas.ellipse((x, y), radius, radius * 0.3, shade(rug, 0.8), FLOOR)
        canvas.ellipse((x, y), radius * 0.85, radius * 0.25, rug, FLOOR)


def _wall_item(room: Room, dice: Dice) -> None:
    unit = (room.bottom - room.horizon) / room.camera_height_m
    x = max(0.0, room.left) + dice.uniform(0.08, 0.92) * (room.right - room.left)
    spot = Place(room.canvas, x, room.bottom, unit, BACKGROUND)
    dice.pick((_window, _window, _door, _picture, _picture, _picture, _hooks))(spot, dice)


def _window(spot: Place, dice: Dice) -> None:
    half, low, high = dice.uniform(0.4, 0.9), dice.uniform(0.7, 1.0), dice.uniform(1.8, 2.2)
    sky = mix((236, 244, 250), (24, 30, 52), dice.pick((0.0, 0.1, 0.2, 0.85)))
    spot.box(-half - 0.05, low - 0.05, half + 0.05, high + 0.05, (222, 218, 210))
    spot.box(-half, low, half, high, sky)
    spot.box(-half, low, half, low + (high - low) * dice.uniform(0.1, 0.4), mix(sky, (88, 112, 84), 0.5))
    spot.box(-0.03, low, 0.03, high, (206, 202, 194))
    if dice.chance(0.6):
        # Curtains hang free of the wall like clothes, and count as furniture.
        cloth, curtain = dice.colour(), Place(spot.canvas, spot.x, spot.y, spot.unit, FURNITURE)
        for sign in (-1, 1):
            inner, outer = half * dice.uniform(0.4, 0.9), half + dice.uniform(0.05, 0.3)
            hem = dice.pick((0.05, low - 0.1))
            tie = (inner + outer) / 2 + 0.04
            fold = ((sign * inner, high + 0.1), (sign * tie, (high + hem) / 2), (sign * inner, hem))
            curtain.polygon((*fold, (sign * outer, hem), (sign * outer, high + 0.1)), cloth)
            middle = sign * (tie + outer) / 2
            curtain.box(middle - 0.03, hem, middle + 0.02, high + 0.1, shade(cloth, 0.8))


def _door(spot: Place, dice: Dice) -> None:
    colour, half = dice.colour(), dice.uniform(0.38, 0.48)
    spot.box(-half - 0.06, 0, half + 0.06, 2.1, shade(colour, 0.75))
    spot.box(-half, 0, half, 2.03, shade(colour, 0.35) if dice.chance(0.3) else colour)
    spot.disc(half * 0.8, 1.0, 0.04, 0.04, (176, 166, 140))


def _picture(spot: Place, dice: Dice) -> None:
    half, low, tall = dice.uniform(0.15, 0.5), dice.uniform(1.1, 1.5), dice.uniform(0.3, 0.8)
    paper = dice.colour()
    spot.box(-half - 0.04, low - 0.04, half + 0.04, low + tall + 0.04, shade(dice.colour(), 0.7))
    spot.box(-half, low, half, low + tall, paper)
    spot.box(-half, low, half, low + tall * dice.uniform(0.2, 0.5), dice.colour())
    spot.disc(dice.uniform(-0.5, 0.5) * half, low + tall * 0.65, half * 0.3, tall * 0.18, dice.colour())


def _hooks(spot: Place, dice: Dice) -> None:
    """A row of hooks with coats."""
    rail = Place(spot.canvas, spot.x, spot.y, spot.unit, FURNITURE)
    rail.box(-0.45, 1.62, 0.45, 1.68, shade(dice.colour(), 0.6))
    for x in (-0.3, 0.0, 0.3):
        if dice.chance(0.6):
            cloth, hem, half = dice.colour(), dice.uniform(0.6, 1.1), dice.uniform(0.1, 0.17)
            rail.polygon(
                ((x, 1.62), (x + half, 1.5), (x + half * 1.2, hem), (x - half * 1.2, hem), (x - half, 1.5)),
                cloth,
            )
