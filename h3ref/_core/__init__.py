"""What the rooms above are built with: private to h3ref, and any release may change it."""
