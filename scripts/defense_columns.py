"""Columns that Tables 1 and 2 share: each number of the run, and behind it the document's."""

from bandlimit.tables import Column

RATES = {
    "images": Column("N"),
    "reported_images": Column("Reported N", 0),
    "adversarial": Column("#Adv"),
    "reported_adversarial": Column("Reported #Adv", 0),
    "defense_rate": Column("Defence rate", 4, interval=("low", "high")),
    "reported_defense_rate": Column("Reported rate", 4),
    "radius": Column("r", 2),
    "reported_radius": Column("Reported r", 2),
}


def accuracy(name, title):
    """Return the columns of an accuracy, by its name in `metrics.defense_rates`."""
    return {
        name: Column(title, 4, interval=(f"{name}_low", f"{name}_high")),
        f"reported_{name}": Column(f"Reported {title.lower()}", 4),
    }


ACCURACIES = {
    **accuracy("attacked_undefended", "Attacked"),
    **accuracy("clean_defended", "Clean, defended"),
    **accuracy("attacked_defended", "Attacked, defended"),
}
