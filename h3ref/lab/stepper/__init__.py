"""The stepper: recordings beside each other, to step through in a browser, without a server or a library.

    from h3ref.lab.stepper import Column, page

    Path("bug.html").write_text(page([Column("broken", broken), Column("fixed", fixed)]))

In a notebook it is `h3ref.lab.notebook.step_through`, on the site the directive `stepper`. All three show one fragment:
what is in it is made here, and the files beside this one, `stepper.css` and `stepper.js`, light what has come so far.
Without JavaScript it stands as a picture of the end.
"""

from .columns import Code, Column
from .page import fragment, page, script, style
from .shown import Stepper

__all__ = ["Code", "Column", "Stepper", "fragment", "page", "script", "style"]
