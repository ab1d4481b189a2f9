"""Method and path to handler: which pattern matches, which of several wins, and what a pattern may be."""

from __future__ import annotations

from typing import Any

import pytest

from h3ref._core.router import Match, Router


def routed(*patterns: str) -> Router:
    """A router in which each pattern's handler for GET is the pattern itself."""
    router = Router()
    for pattern in patterns:
        router.add("GET", pattern, Named(pattern))
    return router


class Named:
    """A handler that is known by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, event: Any) -> None: ...


def got(router: Router, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    """The name of the handler that a path leads to, with the params; None when there is none."""
    match = router.match(method, path)
    return None if match.handler is None else (match.handler.name, match.params)  # type: ignore[attr-defined]


# What matches


@pytest.mark.parametrize("path", ["/", "/hello", "/a/b/c", "/a.b-c_d~e", "/v1/items:batch", "/@me", "/a//b"])
def test_a_static_pattern_matches_its_own_path(path: str) -> None:
    assert got(routed(path), path) == (path, {})


@pytest.mark.parametrize("path", ["", "/hell", "/hello/", "/hello/x", "/Hello", "//hello", "/"])
def test_a_static_pattern_matches_no_other_path(path: str) -> None:
    assert got(routed("/hello"), path) is None


def test_a_param_matches_one_segment() -> None:
    router = routed("/users/:id")
    assert got(router, "/users/7") == ("/users/:id", {"id": "7"})
    assert got(router, "/users") is None
    assert got(router, "/users/7/posts") is None


def test_a_param_matches_no_empty_segment() -> None:
    assert got(routed("/users/:id"), "/users/") is None
    assert got(routed("/:id"), "/") is None


def test_several_params_are_told_apart_by_name() -> None:
    router = routed("/users/:user/posts/:post")
    assert got(router, "/users/7/posts/9") == ("/users/:user/posts/:post", {"user": "7", "post": "9"})


def test_two_patterns_may_name_the_same_segment_differently() -> None:
    router = routed("/:user", "/:room/messages")
    assert got(router, "/7") == ("/:user", {"user": "7"})
    assert got(router, "/7/messages") == ("/:room/messages", {"room": "7"})


def test_two_methods_may_name_the_same_segment_differently() -> None:
    router = Router()
    router.add("GET", "/x/:shown", Named("show"))
    router.add("PUT", "/x/:changed", Named("change"))
    assert got(router, "/x/1") == ("show", {"shown": "1"})
    assert got(router, "/x/1", "PUT") == ("change", {"changed": "1"})


@pytest.mark.parametrize(("path", "rest"), [("/files/a", "a"), ("/files/a/b.txt", "a/b.txt"), ("/files/", "")])
def test_a_wildcard_takes_all_that_follows(path: str, rest: str) -> None:
    assert got(routed("/files/*"), path) == ("/files/*", {"*": rest})


def test_a_wildcard_needs_the_slash_before_it() -> None:
    assert got(routed("/files/*"), "/files") is None


@pytest.mark.parametrize("path", ["/", "/a", "/a/b/"])
def test_a_wildcard_at_the_root_matches_every_path(path: str) -> None:
    assert got(routed("/*"), path) == ("/*", {"*": path[1:]})


def test_a_param_and_a_wildcard_go_together() -> None:
    router = routed("/repos/:name/*")
    assert got(router, "/repos/h3/a/b") == ("/repos/:name/*", {"name": "h3", "*": "a/b"})


def test_a_trailing_slash_is_a_path_of_its_own() -> None:
    router = routed("/a", "/a/")
    assert got(router, "/a") == ("/a", {})
    assert got(router, "/a/") == ("/a/", {})


@pytest.mark.parametrize("path", ["*", "example.com:443", "a"])
def test_a_target_that_is_no_path_matches_nothing(path: str) -> None:
    assert got(routed("/", "/*", "/:id"), path) is None


# Which one wins


def test_a_static_segment_is_preferred_to_a_param_and_that_to_a_wildcard() -> None:
    for patterns in (("/x/me", "/x/:id", "/x/*"), ("/x/*", "/x/:id", "/x/me")):
        router = routed(*patterns)
        assert got(router, "/x/me") == ("/x/me", {})
        assert got(router, "/x/you") == ("/x/:id", {"id": "you"})
        assert got(router, "/x/you/too") == ("/x/*", {"*": "you/too"})


def test_a_static_branch_that_leads_nowhere_is_left_again() -> None:
    router = routed("/x/me/settings", "/x/:id/posts", "/x/*")
    assert got(router, "/x/me/settings") == ("/x/me/settings", {})
    assert got(router, "/x/me/posts") == ("/x/:id/posts", {"id": "me"})
    assert got(router, "/x/me/friends") == ("/x/*", {"*": "me/friends"})


def test_a_branch_without_the_method_is_left_again() -> None:
    router = Router()
    router.add("POST", "/x/me", Named("post me"))
    router.add("GET", "/x/:id", Named("get any"))
    assert got(router, "/x/me") == ("get any", {"id": "me"})
    assert got(router, "/x/me", "POST") == ("post me", {})


@pytest.mark.parametrize("other", ["/x/:old", "/x/:new"])
def test_a_second_handler_for_the_same_paths_is_refused(other: str) -> None:
    router = routed("/x/:old")
    with pytest.raises(ValueError, match=f"GET '{other}' is registered already"):
        router.add("GET", other, Named("new"))
    assert got(router, "/x/1") == ("/x/:old", {"old": "1"})
    router.add("POST", other, Named("post"))
    assert got(router, "/x/1", "POST") == ("post", {other.removeprefix("/x/:"): "1"})


def test_what_matches_the_same_paths_is_named() -> None:
    with pytest.raises(ValueError, match="'/x/:new' is registered already as '/x/:old', which matches the same paths"):
        routed("/x/:old", "/x/:new")


def test_a_long_path_against_many_params_is_matched_soon() -> None:
    router = routed("/a" * 12 + "/end", "/:x" + "".join(f"/:p{n}" for n in range(11)) + "/end")
    assert got(router, "/a" * 12 + "/elsewhere") is None
    assert got(router, "/a" * 20_000) is None


# Percent-encoding


def test_a_param_is_decoded_after_the_path_is_split() -> None:
    assert got(routed("/x/:id"), "/x/a%2Fb%20c") == ("/x/:id", {"id": "a/b c"})


def test_a_static_segment_matches_in_any_encoding() -> None:
    router = routed("/café")
    assert got(router, "/caf%C3%A9") == ("/café", {})
    assert got(router, "/%63af%c3%a9") == ("/café", {})


def test_an_encoded_slash_parts_no_segments() -> None:
    assert got(routed("/a/b"), "/a%2Fb") is None


def test_what_a_wildcard_takes_is_decoded() -> None:
    assert got(routed("/files/*"), "/files/a%20b/c%2Fd") == ("/files/*", {"*": "a b/c/d"})


def test_a_plus_in_a_path_is_a_plus() -> None:
    assert got(routed("/x/:id"), "/x/a+b") == ("/x/:id", {"id": "a+b"})


def test_what_is_no_utf8_is_replaced() -> None:
    assert got(routed("/x/:id"), "/x/%FF") == ("/x/:id", {"id": "\ufffd"})


def test_a_broken_escape_is_left_as_it_is() -> None:
    assert got(routed("/x/:id"), "/x/100%") == ("/x/:id", {"id": "100%"})


# Methods


def test_head_falls_back_to_get() -> None:
    assert got(routed("/x/:id"), "/x/1", "HEAD") == ("/x/:id", {"id": "1"})


def test_head_prefers_a_handler_of_its_own() -> None:
    router = routed("/x")
    router.add("HEAD", "/x", Named("head"))
    assert got(router, "/x", "HEAD") == ("head", {})
    assert got(router, "/x", "GET") == ("/x", {})


def test_no_other_method_falls_back_to_get() -> None:
    assert routed("/x").match("POST", "/x") == Match(None, {}, ("GET", "HEAD"))


def test_methods_that_a_path_answers_to_are_told() -> None:
    router = routed("/x/me")
    router.add("PUT", "/x/:id", Named("put"))
    router.add("DELETE", "/x/*", Named("delete"))
    assert router.match("POST", "/x/me").allowed == ("DELETE", "GET", "HEAD", "PUT")
    assert router.match("POST", "/x/you").allowed == ("DELETE", "PUT")
    assert router.match("HEAD", "/x/you").allowed == ("DELETE", "PUT")


def test_a_path_that_is_not_there_allows_nothing() -> None:
    assert routed("/x").match("GET", "/y") == Match(None, {}, ())


def test_a_path_that_only_leads_on_is_not_there() -> None:
    assert routed("/a/b").match("GET", "/a") == Match(None, {}, ())


# Patterns that can't be used


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "begins with '/'"),
        ("hello", "begins with '/'"),
        ("*", "begins with '/'"),
        ("/:", "needs a name"),
        ("/a/:/b", "needs a name"),
        ("/:id/:id", "two segments are named 'id'"),
        ("/*/a", "must come last"),
        ("/a/*/*", "must come last"),
        ("/a/*rest", "stands alone"),
        ("/a*", "stands alone"),
        ("/search?q=1", "no path has"),
        ("/page#top", "no path has"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("'", ".").replace("?", ".")) as caught:
        Router().add("GET", pattern, Named("x"))
    assert repr(pattern) in str(caught.value)


def test_a_refused_pattern_changes_nothing() -> None:
    router = routed("/a")
    with pytest.raises(ValueError, match="two segments"):
        router.add("GET", "/a/:b/:b", Named("x"))
    assert got(router, "/a") == ("/a", {})
    assert got(router, "/a/1/2") is None


# What is found at once


@pytest.mark.parametrize("pattern", ["/", "/a", "/a/b", "/a%20b", "/:id", "/a/:id", "/*", "/a/*", "/a//b", "/a/:id/b"])
def test_what_is_found_at_once_is_what_the_tree_has(pattern: str) -> None:
    router, walked = routed(pattern), routed(pattern)
    walked._plain.clear()
    for method in ("GET", "HEAD", "POST"):
        for path in ("/", "/a", "/a/b", "/a%20b", "/a b", "/%61", "/a/%2A", "/a/:id", "/:id", "/*", "/a//b", "a", ""):
            found, expected = router.match(method, path), walked.match(method, path)
            assert found[1:] == expected[1:], path
            assert (found.handler is None) == (expected.handler is None), path


def test_no_two_matches_share_their_params() -> None:
    router = routed("/a")
    router.match("GET", "/a").params["mine"] = "1"
    assert router.match("GET", "/a").params == {}
