"""Django's StreamingHttpResponse under an ASGI server, with the stream's bytes by hand."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from routes import Early, Event, Events, Routes, one

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of no use", DEBUG=False)
routes = Routes(in_parts=True)


async def encoded(events: Events):
    async for event in events:
        yield event.by_hand()


def streamed(events: Events, headers: dict[str, str] | None = None) -> HttpResponseBase:
    return StreamingHttpResponse(
        encoded(events), content_type="text/event-stream", headers={"Cache-Control": "no-cache", **(headers or {})}
    )


@csrf_exempt
async def answer(request: HttpRequest, name: str) -> HttpResponseBase:
    query = request.GET
    if name in Routes.PLAIN or (name == "shutdown" and request.method == "POST"):
        return HttpResponse(routes.say(name, query.get("key", "")), content_type="text/plain")
    if name in Routes.STREAMS:
        return streamed(routes.stream(name, query.get("key", ""), request.headers.get("last-event-id", "")))
    if name == "early":
        raise Early
    if name == "echo":
        headers = {"X-Echo": query["header"]} if "header" in query else {}
        return streamed(one(Event(query.get("data", ""), query.get("event"), query.get("id"))), headers)
    return HttpResponse("no", status=404)


urlpatterns = [path("<name>", answer)]
app = get_asgi_application()
