"""The judge: holds any server's event streams, and any client, to the catalogue in `spec/checks.json`.

`catalogue` reads the checks, `verdict` says what one found, `report` shows it as it comes, and `results` keeps it. A
judge takes what it looks at, the checks that are wanted, and `tell`, which it calls with each verdict once it is known:
`stream` judges a stream that it is given the URL of, `contract` an app with agreed routes, `clients` a client that it
starts. `h3ref check` calls them.
"""
