"""The results as a plain site: what holds, the artifacts behind it, and where each comes from.

HTML alone, opened from a folder, without a server or a network. Everything can be read without
scripts; a small one filters the claims. Needs neither torch nor matplotlib.
"""

from bandlimit.site.browser import Choice
from bandlimit.site.pages import write

__all__ = ["Choice", "write"]
