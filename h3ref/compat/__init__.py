"""Other libraries' names and arguments over h3ref's streams: an application moves to h3ref by changing an import."""
