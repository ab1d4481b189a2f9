"""What writes the parts of the project that are generated: pictures, notebooks' outputs, and tables in pages."""
