"""Which of a record's fields is the image, the label and the group, where a data set names and types them."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtl.data.kinds import Options
from jaxtl.data.problems import refuse, shown
from jaxtl.data.table import LABELS
from jaxtl.errors import nearest


def chosen_fields(
    place: str, known: Sequence[str], images: Sequence[str], options: Options, usual: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """The field of images and those of labels.

    Args:
        place: the data, for people.
        known: all fields.
        images: those that hold images.
        options: what was asked for.
        usual: the field that the data set itself calls its label.

    Raises:
        InputError: fields that are not there, or could be several.

    >>> chosen_fields("hf:a", ["img", "label"], ["img"], Options())
    ('img', ('label',))
    """
    problems = []
    asked = [("path_column", options.path_column), ("group_column", options.group_column)]
    asked += [("label_column", name) for name in options.label_columns or ()]
    for option, name in asked:
        if name is not None and name not in known:
            hint = nearest(name, known) or f"; there are {shown(map(repr, known))}"
            problems.append(f"{option}: there is no field '{name}'{hint}")
    image = options.path_column or next((name for name in ("image", "img") if name in images), None)
    if image is None and len(images) == 1:
        image = images[0]
    if image is None:
        many = f"several, {shown(map(repr, images))}" if images else f"none among {shown(map(repr, known))}"
        problems.append(
            f"which field is the image? There are {many}: give path_column" if images else f"it has no images: {many}"
        )
    elif image in known and image not in images:
        problems.append(f"path_column: '{image}' holds no images; {shown(map(repr, images)) or 'no field'} does")
    labels = options.label_columns
    if labels is None:
        found = [usual] if usual in known else [name for name in known if name.lower() in LABELS]
        if len(found) != 1:
            many = f"could be {shown(map(repr, found))}" if found else f"is none of {shown(map(repr, known))}"
            problems.append(f"the label {many}: give label_column")
        labels = tuple(name for name in found if name is not None)
    refuse(place, problems)
    assert image is not None
    return image, labels
