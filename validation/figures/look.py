"""Names and colours of the parametrizations, the same in all figures."""

from tpsim.plot.style import BLUE, GREEN, ORANGE, VERMILLION

COLOURS = {"mup": BLUE, "ip": VERMILLION, "ntp": GREEN, "sp": ORANGE}
SYMBOLS = {"mup": r"$\mu$P", "ip": "IP", "ntp": "NTP", "sp": "SP"}  # in pictures
NAMES = {"mup": "muP", "ip": "IP", "ntp": "NTP", "sp": "SP"}  # in text
MARKERS = {"mup": "o", "ip": "s", "ntp": "^", "sp": "v"}  # told apart in grey print as well
