"""Pages made from templates.

A template knows the texts, the theme and who is signed in.
"""

from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from tunesmith import __version__
from tunesmith.web import formats
from tunesmith.web.language import COOKIE, LANGUAGES, language_of, text
from tunesmith.web.sentences import said
from tunesmith.web.static_files import static_url
from tunesmith.web.views.evaluations.decisions import badge, text_key

THEME_COOKIE, THEMES = "tunesmith_theme", ("light", "dark")
CHOICE_SECONDS = 365 * 86_400

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.filters.update(formats.FILTERS | {"badge": badge, "decision_key": text_key, "said": said})


def render(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """The page, or the part of one, that a template makes of the values."""
    language, theme = language_of(request), _theme(request)
    content = _environment.get_template(template).render(
        t=partial(text, language),
        language=language,
        languages=LANGUAGES,
        theme=theme,
        visit=getattr(request.state, "visit", None),
        path=request.url.path,
        version=__version__,
        static=static_url,
        **values,
    )
    response = HTMLResponse(content, status_code=status, headers={"vary": "Cookie, Accept-Language"})
    for cookie, chosen in ((COOKIE, language), (THEME_COOKIE, theme)):
        if cookie.removeprefix("tunesmith_") in request.query_params and chosen:
            response.set_cookie(cookie, chosen, max_age=CHOICE_SECONDS, samesite="strict", httponly=True)
    return response


def _theme(request: Request) -> str:
    """light, dark, or "" for what the system has."""
    chosen = request.query_params.get("theme") or request.cookies.get(THEME_COOKIE, "")
    return chosen if chosen in THEMES else ""
