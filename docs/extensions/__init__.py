"""What the site needs beyond Sphinx: reference pages made from the code, and pages that show the code."""
