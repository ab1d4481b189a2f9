"""Other libraries' names and arguments over h3ref's streams: to move to h3ref, an application changes an import."""
