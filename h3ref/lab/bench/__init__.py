"""The benchmark: h3ref beside its peers, in one run on one machine, so that ratios can be compared.

    h3ref bench                              all of it, some minutes
    h3ref bench --quick                      a first impression, in less than one
    h3ref bench --sections fanout,pace --systems raw,'h3ref*' --json results.json

Each system is a server in a process of its own (`servers`, `process`), with one client for all (`load`), which runs in
this process. Everything is repeated with all systems in turns, so that what slows the machine slows them all, and the
figure to tell is the ratio: a system's cost divided by that of the floor in the same repetition, a bare asyncio
Protocol that checks nothing; in encode, parse and lifecycle, which measure no servers, by h3ref's own. The median of
the repetitions is told. CPU is the server's own, user and system, from its own clock; garbage that is there before is
collected before. A delay ends when the kernel had the bytes for the client, where it tells (Linux): a slow client is
not counted. One thing it does distort: with many requests at once the fastest servers wait for it, so that their times
to the first event lie closer together than alone.

The sections are in `sections` and `codec` and `lifecycle`, the systems in `systems`, the figures in `plots`. Two more
questions are put to the same servers, by `docs/generate`: where an event's time goes, and what a commit was worth.

The JSON (`results.Results`, which reads it back) is one object:

    schema         1
    date           when it began, ISO 8601, in UTC
    seconds        how long it took
    quick, repeat  how it was asked for
    machine        python, system, architecture, processor, cores, commit (with + when files were changed, or null)
    versions       of each package that was measured
    titles         of each system that was measured: its name for people
    sections       a list: name, title, work (in words), base (the system or package that ratios are to)
    measurements   a list: section, case, quantity (cpu, instructions where the processor
                   tells them, p50, p99, memory, or the task of a codec), unit (us, KB, or k for thousands),
                   system, runs (a figure for each repetition), ratios (likewise), median, ratio (their medians; null
                   when there was no figure), size (streams), distribution (with p50 only): count, given_up (requests
                   without an event), quantiles in us at `probabilities`, all repetitions together
    missing        for each system that was left out: the packages to install
    failures       a list: section, case, system, why
    notes          what else is to be known
    probabilities  where quantiles are kept, from 0 to 1
"""
