"""The page and the API page, as a person meets them: in Chromium."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    expect,
    sync_playwright,
)

from tests.support.environment import need
from tests.support.service import Service

# The browser's own errands to its maker are off, so that each request seen is the page's.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# Chromium logs each request of a script that fails, or is answered by 4xx, as an error.
EXPECTED = re.compile(
    r"Failed to load resource: (net::ERR_FAILED|the server responded with a status of 4\d\d)"
)
API = re.compile(r"/(hello/|birthdays)")
NO_ANSWER = "The service did not answer. Check your connection, then try again."

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: Service) -> Iterator[Open]:
    """Open a path of the service. Whatever the test does, nothing may leave the origin or be logged."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    strangers: list[str] = []

    def only_own(route: Route) -> None:
        if f"{route.request.url}/".startswith(f"{served.url}/"):
            route.continue_()
        else:
            strangers.append(route.request.url)
            route.abort()

    def note(message: ConsoleMessage) -> None:
        expected = EXPECTED.match(message.text) and API.match(urlsplit(message.location["url"]).path)
        if message.type in {"error", "warning"} and not expected:
            complaints.append(message.text)

    def open_path(path: str = "/", **options: object) -> Page:
        settings = {"locale": "en-GB", "timezone_id": "UTC", **options}
        context = browser.new_context(**settings)  # type: ignore[arg-type]
        context.set_default_timeout(10_000)
        contexts.append(context)
        context.route("**/*", only_own)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{served.url}{path}")
        return page

    yield open_path
    for context in contexts:
        context.close()
    assert strangers == []
    assert complaints == []


def born(days: int, year: int = 1992) -> str:
    """Return a date of birth in `year` whose birthday comes in `days` days."""
    return (datetime.now(UTC).date() + timedelta(days=days)).replace(year=year).isoformat()


def greet(page: Page, name: str) -> Locator:
    page.locator("#greet").get_by_label("Name").fill(name)
    page.get_by_role("button", name="Say hello").click()
    return page.locator("#greet-status")


def save(page: Page, name: str, date: str) -> Locator:
    page.locator("#save").get_by_label("Name").fill(name)
    page.get_by_label("Date of birth").fill(date)
    page.get_by_role("button", name="Save birthday").click()
    return page.locator("#save-status")


def test_a_birthday_is_added_and_greeted(open_page: Open) -> None:
    """A saved birthday is confirmed without its year, greeted, and listed among the next."""
    page = open_page()
    expect(page.locator("#next-status")).to_contain_text("Nobody")
    expect(save(page, "Ada", born(3))).to_contain_text("Saved. Ada")
    expect(page.locator("#save-status")).not_to_contain_text("1992")
    expect(page.locator("#next-list li")).to_contain_text(["in 3 days"])
    expect(page.locator("#next-status")).to_be_empty()
    expect(greet(page, "ada")).to_have_text("Hello, Ada! Your birthday is in 3 day(s)")


def test_an_existing_birthday_is_changed_only_when_confirmed(open_page: Open) -> None:
    """The page asks before it replaces a date: keeping, Escape and changing each do what they say."""
    page = open_page()
    expect(save(page, "Ada", born(3))).to_contain_text("Saved.")
    asked = page.get_by_role("dialog", name="Change this birthday?")

    save(page, "Ada", born(9))
    expect(asked).to_contain_text("There is already a birthday for Ada. Change it to")
    asked.get_by_role("button", name="Keep it as it is").click()
    expect(page.locator("#save-status")).to_have_text("Nothing was changed.")

    save(page, "Ada", born(9))
    expect(asked).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#save-status")).to_have_text("Nothing was changed.")
    expect(greet(page, "Ada")).to_contain_text("in 3 day(s)")

    save(page, "Ada", born(9))
    asked.get_by_role("button", name="Change it").click()
    expect(page.locator("#save-status")).to_contain_text("Saved.")
    expect(page.locator("#next-list li")).to_contain_text(["in 9 days"])
    expect(page.get_by_role("button", name="Save birthday")).to_be_focused()


def test_who_is_next_is_read_page_by_page(open_page: Open, served: Service) -> None:
    """The soonest come first, ten at a time; "More" moves the focus to the first of the new ones."""
    names = [f"Person{letter}" for letter in "ABCDEFGHIJKL"]
    for days, name in enumerate(names):
        assert served.put(name, born(days)).status == 204
    page = open_page()
    rows = page.locator("#next-list li")
    expect(rows).to_have_count(10)
    expect(rows.locator(".when")).to_have_text(
        ["today", "tomorrow", *(f"in {days} days" for days in range(2, 10))]
    )
    page.get_by_role("button", name="More").click()
    expect(rows.locator(".who")).to_have_text(names)
    expect(rows.nth(10)).to_be_focused()
    expect(page.get_by_role("button", name="More")).to_be_hidden()


def test_dates_are_in_the_reader_s_language(open_page: Open) -> None:
    """A date is spelled in the browser's locale, marked so for screen readers, and has no year."""
    page = open_page(locale="de-DE")
    expect(save(page, "Ada", born(1))).to_contain_text("Saved.")
    time = page.locator("#next-list time")
    weekdays = ["Mo", "Di", "Mi", "Do", "Fr", "Sa", "So"]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    expect(time).to_contain_text(f"{weekdays[tomorrow.weekday()]}., {tomorrow.day}. ")
    expect(time).not_to_contain_text(str(tomorrow.year))
    expect(time).to_have_attribute("lang", "de-DE")


def test_today_is_the_reader_s(open_page: Open) -> None:
    """Each request names the reader's time zone, and the latest date offered is the day before there."""
    page = open_page(timezone_id="Pacific/Kiritimati")  # UTC+14, where the day starts first
    expect(page.get_by_label("Date of birth")).to_have_attribute(
        "max", f"{(datetime.now(UTC) + timedelta(hours=14)).date() - timedelta(days=1)}"
    )
    with page.expect_request("**/hello/Ada?tz=Pacific%2FKiritimati") as asked:
        save(page, "Ada", born(30))
    assert asked.value.header_value("if-none-match") == "*"
    with page.expect_request("**/birthdays?*tz=Pacific%2FKiritimati"):
        page.reload()
    with page.expect_request("**/hello/Ada?tz=Pacific%2FKiritimati"):
        greet(page, "Ada")


def test_a_time_zone_the_server_does_not_know_is_left_out(open_page: Open) -> None:
    """Where the server refuses the browser's time zone, its own serves."""
    page = open_page(timezone_id="Europe/Berlin")
    page.route(re.compile("tz=Europe"), lambda route: route.continue_(url=f"{route.request.url}/Nowhere"))
    expect(save(page, "Ada", born(60))).to_contain_text("Saved.")
    expect(greet(page, "Ada")).to_contain_text("Hello, Ada!")


def test_the_calendar_address_can_be_taken_along(open_page: Open, served: Service) -> None:
    """The calendar's address is absolute, can be copied, and opens a calendar program."""
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    address = f"{served.url}/birthdays.ics"
    link = page.get_by_role("link", name=address)
    expect(link).to_have_attribute("href", address)
    expect(page.get_by_role("link", name="Open in calendar")).to_have_attribute(
        "href", address.replace("http:", "webcal:")
    )
    page.get_by_role("button", name="Copy address").click()
    expect(page.locator("#calendar-status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == address
    assert served.get("/birthdays.ics").headers["content-type"].startswith("text/calendar")


def test_the_calendar_address_is_selected_where_copying_is_refused(open_page: Open) -> None:
    """Without access to the clipboard the address is selected, and the page says how to copy it."""
    page = open_page()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    page.get_by_role("button", name="Copy address").click()
    expect(page.locator("#calendar-status")).to_contain_text("copy it with Ctrl+C")
    assert str(page.evaluate("getSelection().toString()")).endswith("/birthdays.ics")


@pytest.mark.parametrize("name", ["Ada2", "Ada Lovelace", "Ada?x", "Ada#x", "x" * 65])
def test_a_bad_name_is_explained_at_its_field(open_page: Open, name: str) -> None:
    """A name the service refuses gets the service's sentence; its field is marked and has the focus."""
    page = open_page()
    expect(greet(page, name)).to_contain_text("letter")
    field = page.locator("#greet").get_by_label("Name")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    field.press_sequentially("a")
    expect(field).not_to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../version"])
def test_a_name_that_is_a_path_asks_nothing(open_page: Open, name: str) -> None:
    """A name that would change the path of the request is refused before it is sent."""
    expect(greet(open_page(), name)).to_have_text("A name has letters only.")


def test_a_missing_name_or_date_is_asked_for(open_page: Open) -> None:
    """An empty field is named, and has the focus."""
    page = open_page()
    expect(greet(page, " ")).to_have_text("Type a name first.")
    expect(save(page, "Ada", "")).to_have_text("Give the whole date: day, month and year.")
    expect(page.get_by_label("Date of birth")).to_be_focused()


def test_a_date_to_come_is_explained_at_its_field(open_page: Open) -> None:
    """A date of birth in the future gets the service's sentence, and the date has the focus."""
    page = open_page()
    expect(save(page, "Ada", "2999-01-01")).to_contain_text("before today")
    expect(page.get_by_label("Date of birth")).to_be_focused()
    expect(page.locator("#next-list li")).to_have_count(0)


def test_an_unknown_name_can_be_added_at_once(open_page: Open) -> None:
    """A name nobody has leads to the form that adds it, with the name filled in."""
    page = open_page()
    expect(greet(page, "Grace")).to_have_text("Nobody called Grace is known here yet.")
    page.get_by_role("button", name="Add their birthday").click()
    expect(page.locator("#save").get_by_label("Name")).to_have_value("Grace")
    expect(page.get_by_label("Date of birth")).to_be_focused()


def test_a_service_that_does_not_answer_is_said_so(open_page: Open) -> None:
    """When requests fail, each part says what to do, and works again once the service answers."""
    page = open_page()
    expect(page.locator("#next-status")).not_to_contain_text("Looking up")
    page.route(API, lambda route: route.abort())
    expect(greet(page, "Ada")).to_have_text(NO_ANSWER)
    expect(save(page, "Ada", born(2))).to_have_text(NO_ANSWER)
    page.reload()
    expect(page.locator("#next-status")).to_have_text(NO_ANSWER)
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#next-status")).to_contain_text("Nobody")
    expect(save(page, "Ada", born(2))).to_contain_text("Saved.")


def test_an_answer_that_is_no_problem_document_is_said_in_plain_words(open_page: Open) -> None:
    """An error page of something between the browser and the service is never shown as it is."""
    page = open_page()
    page.route("**/hello/*", lambda route: route.fulfill(status=410, body="<h1>gone</h1>"))
    expect(greet(page, "Ada")).to_have_text(
        "The service answered with an error (410). Try again in a moment."
    )


def test_a_second_submit_waits_for_the_first(open_page: Open) -> None:
    """Pressing the button again while a request runs sends nothing."""
    page = open_page()
    held: list[Route] = []
    page.route("**/hello/*", lambda route: held.append(route))
    page.locator("#greet").get_by_label("Name").fill("Ada")
    button = page.get_by_role("button", name="Say hello")
    button.click()
    expect(button).to_have_attribute("aria-disabled", "true")
    button.click(force=True)
    page.keyboard.press("Enter")
    held[0].continue_()
    expect(button).to_have_attribute("aria-disabled", "false")
    assert len(held) == 1


def test_an_access_key_is_asked_for_where_the_service_wants_one(open_page: Open) -> None:
    """A 401 reveals the field for a key; a wrong one is refused there, a right one is sent from then on."""
    page = open_page()

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"detail": "Send a bearer token."})

    page.route(API, guard)
    page.reload()
    key = page.get_by_label("Key", exact=True)
    expect(key).to_be_visible()
    expect(greet(page, "Ada")).to_contain_text("This service asks for an access key")
    expect(key).to_be_focused()
    key.fill("wrong")
    key.press("Enter")
    expect(page.locator("#key-status")).to_have_text("The service does not accept this access key.")
    key.fill("right")
    key.press("Enter")
    expect(page.locator("#key-status")).to_have_text("This key is now sent with each request.")
    expect(save(page, "Ada", born(2))).to_contain_text("Saved.")
    expect(page.locator("#next-list li")).to_contain_text(["Ada"])


def test_the_keyboard_is_enough(open_page: Open) -> None:
    """With Tab, Enter and typing alone: greet, add, change, copy. The focus can always be seen."""
    page = open_page()
    expect(page.locator("#next-status")).to_contain_text("Nobody")

    def tab_to(target: Locator) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(outline) != "none"
            if target.evaluate("element => element === document.activeElement"):
                return
        pytest.fail(f"Tab does not reach {target}")

    tab_to(page.locator("#greet-name"))
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    expect(page.locator("#greet-status")).to_contain_text("Nobody called Ada")
    tab_to(page.locator("#greet-add"))
    page.keyboard.press("Enter")
    page.keyboard.type("01011990")  # whether the machine's language has the day or the month first
    page.keyboard.press("Enter")
    expect(page.locator("#save-status")).to_contain_text("Saved.")
    page.keyboard.press("Enter")
    expect(page.locator("#change")).to_be_visible()
    expect(page.locator("#change-no")).to_be_focused()
    tab_to(page.locator("#change-yes"))
    page.keyboard.press("Enter")
    expect(page.locator("#change")).to_be_hidden()
    expect(page.locator("#save-status")).to_contain_text("Saved.")
    tab_to(page.locator("#calendar-copy"))
    page.keyboard.press("Enter")
    expect(page.locator("#calendar-status")).not_to_be_empty()


def violations(page: Page, *, without: str | None = None) -> str:
    found = Axe().run(page, context={"exclude": [[without]]} if without else None)
    return str(found.generate_report()) if found.violations_count else ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(open_page: Open, scheme: str) -> None:
    """axe finds nothing to object to, with answers, errors and the question on the page."""
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    assert violations(page) == ""
    expect(save(page, "Ada", born(0))).to_contain_text("Saved.")
    expect(page.locator("#next-list li")).to_have_count(1)
    expect(greet(page, "Ada2")).to_contain_text("letter")
    assert violations(page) == ""
    save(page, "Ada", born(9))
    expect(page.locator("#change")).to_be_visible()
    assert violations(page) == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_api_page_is_accessible(open_page: Open, scheme: str) -> None:
    """axe finds nothing to object to on the API page, Swagger UI's own part aside."""
    page = open_page("/docs", color_scheme=scheme)
    expect(page.locator(".opblock").first).to_be_visible()
    assert violations(page, without="#api") == ""


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_phone_needs_no_sideways_scrolling(open_page: Open, path: str) -> None:
    """At 320 px nothing is wider than the screen, whatever the length of a name."""
    page = open_page(path, viewport={"width": 320, "height": 640})
    if path == "/":
        expect(save(page, "W" * 64, born(0))).to_contain_text("Saved.")
        expect(page.locator("#next-list li")).to_have_count(1)
        expect(greet(page, "W" * 64)).to_contain_text("Hello")
    else:
        expect(page.locator(".opblock").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_dark_mode_changes_the_colours(open_page: Open, path: str) -> None:
    """The page follows the reader's choice: dark text on a light ground, or the reverse."""
    page = open_page(path, color_scheme="light")

    def brightness(what: str) -> int:
        colour = str(page.evaluate(f"getComputedStyle(document.body).{what}"))
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    assert brightness("backgroundColor") > 600 > 200 > brightness("color")
    page.emulate_media(color_scheme="dark")
    assert brightness("backgroundColor") < 200 < 600 < brightness("color")


def test_a_name_never_becomes_markup(open_page: Open) -> None:
    """Markup in a name, typed or from the address, is shown as text and runs nothing."""
    markup = "<img src=x onerror=alert(1)>"
    page = open_page(f"/#name={markup}")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    expect(page.locator("#greet-status")).to_contain_text("letter")
    page.route("**/hello/*", lambda route: route.fulfill(json={"message": f"Hello, {markup}!"}))
    listed = {"birthdays": [{"username": markup, "date": "2030-01-01", "days": 1}], "next": None}
    page.route("**/birthdays?*", lambda route: route.fulfill(json=listed))
    expect(greet(page, markup)).to_have_text(f"Hello, {markup}!")
    expect(save(page, markup, born(3))).to_contain_text(f"Saved. {markup}")
    expect(page.locator("#next-list .who")).to_have_text(markup)
    expect(page.locator("main img")).to_have_count(0)
    assert dialogs == []


@pytest.mark.parametrize("name", ["Zoë", "Ольга", "محمد"])
def test_a_name_of_any_script_round_trips(open_page: Open, name: str) -> None:
    """A name beyond ASCII is saved, listed and greeted as spelled, and can be linked to."""
    page = open_page()
    expect(save(page, name, born(5))).to_contain_text(f"Saved. {name}")
    expect(page.locator("#next-list .who")).to_have_text(name)
    expect(greet(page, name)).to_contain_text(f"Hello, {name}!")
    page.reload()
    expect(page.locator("#greet-name")).to_have_value(name)
    expect(page.locator("#greet-status")).to_contain_text(f"Hello, {name}!")


def test_without_javascript_the_page_says_what_to_do(open_page: Open) -> None:
    """Without JavaScript there are lines for a terminal, and no forms that do nothing."""
    page = open_page(java_script_enabled=False)
    expect(page.locator("noscript pre")).to_contain_text("curl -X PUT")
    expect(page.get_by_role("button", name="Say hello")).to_be_hidden()


def test_the_footer_leads_on(open_page: Open, served: Service) -> None:
    """The footer links to the API page and its document, and names the version."""
    page = open_page()
    version = served.get("/version").json()["version"]
    expect(page.locator("#version")).to_contain_text(f"Version {version}")
    expect(page.get_by_role("link", name="OpenAPI")).to_have_attribute("href", "/openapi.json")
    page.get_by_role("link", name="Try the API").click()
    expect(page).to_have_title("hello: the API")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(served: Service, path: str) -> None:
    """Both pages come with a policy under which markup that got in could neither run nor load anything."""
    policy = served.get(path, {"Accept": "text/html"}).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert set(re.findall(r"script-src[^;]*|style-src[^;]*", policy)) == {
        "script-src 'self'",
        "style-src 'self'",
    }


def test_requests_can_be_tried_on_the_api_page(open_page: Open) -> None:
    """Swagger UI sends what is typed, names beyond ASCII too, and shows the answer."""
    page = open_page("/docs")

    def operation(method: str, path: str) -> Locator:
        found = page.locator(f".opblock-{method}", has=page.locator(f'[data-path="{path}"]'))
        found.locator(".opblock-summary-control").click()
        return found

    def answer(tried: Locator) -> Locator:
        tried.get_by_role("button", name="Execute").click()
        return tried.locator(".live-responses-table")

    # Swagger UI checks parameters only from the second operation that is opened on.
    upcoming = operation("get", "/birthdays")
    register = operation("put", "/hello/{username}")
    expect(register.locator('[data-param-name="username"] .parameter__type')).to_have_text("string")
    register.locator('[data-param-name="username"] input').fill("Zoë")
    register.locator("textarea").fill(f'{{"dateOfBirth": "{born(3)}"}}')
    expect(answer(register).locator(".response-col_status").last).to_contain_text("204")

    listed = answer(upcoming)
    expect(listed.locator(".response-col_status").last).to_contain_text("200")
    expect(listed).to_contain_text('"Zoë"')


def test_explanations_are_marked_up(served: Service) -> None:
    """What an explanation of a problem marks as code is code on the API page, the rest is plain text."""
    page = served.get("/docs").body.decode()
    explanations = re.findall(r"<dd>(.*)</dd>", page)
    assert len(explanations) > 20
    assert "<code>If-None-Match: *</code> only creates, and somebody has this username." in explanations
    assert (
        "PUT takes <code>{&quot;dateOfBirth&quot;: &quot;YYYY-MM-DD&quot;}</code> and nothing else."
        in explanations
    )
    assert not any(re.search(r"`|<(?!/?code>)", text) for text in explanations)


def test_an_error_leads_to_its_explanation(open_page: Open, served: Service) -> None:
    """The `type` of an error answer leads to an entry of the API page that explains it, in view."""
    problem = served.get("/hello/Nobody").json()
    page = open_page(problem["type"])
    entry = page.locator(f"[id='{urlsplit(problem['type']).fragment}']")
    expect(page.locator(".opblock").first).to_be_visible()
    expect(entry).to_be_in_viewport()
    expect(entry).to_contain_text(problem["title"])
