"""What the rooms above are built with: nobody outside h3ref imports it, and any release may change it."""
