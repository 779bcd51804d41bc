"""Drives two phones of the console and its pages of operators and moderators in Chromium, and holds each page to axe-core.

usage: run.py FLEET AXE FOLDER SECONDS

FLEET is the address of a running fleet's entry, or the program, which is started then; AXE is the file axe.min.js; screenshots go
to FOLDER; SECONDS is how long a clone of the repository and its set-up took, 0 for not timed. The other pages are driven on a fleet that was started
here: its settings and accounts change.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

SERVICES = ("config", "auth", "feed", "dm", "notice")
PATIENCE = 60
# Bytes of all files that the pages load, as the entry sends them to a browser. No page loads the texts of licences.
LARGEST = 204_800
WEB = Path(__file__).resolve().parents[2] / "web"
# Milliseconds until the first text or picture is drawn, the median of some loads without a cache: other processes of a busy machine slow down single ones.
FIRST_PAINT = 300
LOADS = 7
WIDE, NARROW = (1480, 960), (390, 844)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en",
)
THEMES = ("light", "dark")
AXE_OPTIONS = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}

# Seconds from `git clone` to the first like, the build aside.
NEWCOMER = 300

findings = []
# Seconds of what a newcomer waits for, in this order.
waited = {}


def say(text):
    print(text, flush=True)


def photo_png(side=240):
    """Returns a PNG: an evening sky in a gradient."""
    rows = b"".join(b"\0" + bytes((250 - y // 4, 170 + y // 4 - x // 8, 120 + y // 3)[channel] for x in range(side) for channel in range(3)) for y in range(side))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Operator:
    """What an operator of a fleet has: the token, and the folder of settings."""

    def __init__(self, data):
        self.token = secrets.token_hex(16)
        self.settings = data / "config" / "application.yml"
        self.settings.parent.mkdir(parents=True)
        self.configure("25%")

    def configure(self, share):
        """Writes settings with the flag `new-year`, as a whole or not at all."""
        beside = self.settings.parent.parent / "configured"
        beside.write_text(f"flags:\n  new-year: {share}\n")
        beside.rename(self.settings)


@contextlib.contextmanager
def fleet(given):
    """Gives the address of the entry, the given one or that of a fleet that runs meanwhile, and the operator of the latter."""
    if given.startswith("http"):
        yield given, None
        return
    held = {}
    for name in (*SERVICES, "entry"):
        # Bound, not listening: the port stays ours until the fleet has it, as crates/testkit/src/ports.rs does.
        held[name] = socket.socket()
        held[name].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held[name].bind(("127.0.0.1", 0))
    ports = {name: one.getsockname()[1] for name, one in held.items()}
    environment = os.environ | {f"SOSOHAPPY_{name.upper()}__SERVER__PORT": str(ports[name]) for name in SERVICES}
    environment["SOSOHAPPY_ENTRY"] = f"127.0.0.1:{ports['entry']}"
    with tempfile.TemporaryDirectory() as folder:
        operator = Operator(Path(folder) / "data")
        environment |= {
            "SOSOHAPPY_OPERATOR_TOKEN": operator.token,
            # New settings are published by the operator, and a canary runs until the operator stops it.
            "SOSOHAPPY_CONFIG__CANARY__HOLD": "true",
            "SOSOHAPPY_CONFIG__CANARY__WATCH": "10m",
            "SOSOHAPPY_FEED__REVIEW__WORDS": "followers",
        }
        log = Path(folder) / "fleet.log"
        began = time.monotonic()
        with log.open("w") as written:
            process = subprocess.Popen([given, "run", "--data", Path(folder) / "data"], stdout=written, stderr=subprocess.STDOUT, env=environment)
        try:
            for name in SERVICES:
                wait_until_ready(f"http://127.0.0.1:{ports[name]}/actuator/health/readiness", process)
            waited["start of the fleet"] = time.monotonic() - began
            yield f"http://127.0.0.1:{ports['entry']}", operator
        except BaseException:
            print("".join(log.read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            for one in held.values():
                one.close()


def wait_until_ready(url, process):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"{url} is not ready within {PATIENCE} s") from None
            time.sleep(0.1)


def weigh(address):
    """Sums the bytes of all files of all pages, as they are sent to a browser."""
    total = {}
    for path in sorted(WEB.rglob("*")):
        name = path.relative_to(WEB).as_posix()
        if path.is_dir() or path.name.startswith("LICENSE.") or name == "jsconfig.json":
            continue
        request = urllib.request.Request(f"{address}/{name}", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            part = "on demand" if name.startswith(("operations/", "moderation/")) else "first page"
            total[part] = total.get(part, 0) + len(answer.read())
    size = sum(total.values())
    say(f"assets: {size:,} bytes as sent, of at most {LARGEST:,}: {', '.join(f'{part} {bytes:,}' for part, bytes in total.items())}")
    if size > LARGEST:
        findings.append(f"the assets are {size} bytes, more than {LARGEST}")


def preloads():
    """Compares the modules that index.html names with those that main.js imports, directly or by another module: a browser finds others one after the other."""
    imported, todo = set(), [WEB / "main.js"]
    while todo:
        module = todo.pop()
        if module not in imported:
            imported.add(module)
            names = re.findall(r"""(?:^|[;\n])import[^;()\n]*?from ?['"]([^'"]+)['"]""", module.read_text())
            todo += [(module.parent / name).resolve() for name in names]
    imported = {f"/{module.relative_to(WEB).as_posix()}" for module in imported}
    named = set(re.findall(r'"(/[^"]+\.js)"', (WEB / "index.html").read_text()))
    findings.extend(f"index.html has no modulepreload for {name}" for name in sorted(imported - named))
    findings.extend(f"index.html preloads {name}, which main.js does not import" for name in sorted(named - imported))


def switches():
    """Compares the fault switches that the page of operators suggests with those of the services, and with the table of docs/config.md."""
    ours = re.findall(r'=> "(fault\.[a-z-]+)"', (WEB.parent / "crates/common/src/faults.rs").read_text())
    page = re.findall(r"'(fault\.[a-z-]+)'", (WEB / "operations/page.js").read_text())
    table = re.findall(r"^\| `(fault\.[a-z-]+)` \|", (WEB.parent / "docs/config.md").read_text(), re.MULTILINE)
    if not ours == page == table:
        findings.append(f"fault switches differ: services {ours}, page {page}, docs/config.md {table}")


# Where an element is, seen from the one with the focus. Of a group of radio buttons the tab key reaches one, and arrow keys the others.
PLACE = """
    const [goal] = arguments
    const active = document.activeElement ?? document.body
    if (active === goal) return 'there'
    if (goal.type === 'radio' && active.name === goal.name) return 'beside'
    const precedes = active.compareDocumentPosition(goal) & Node.DOCUMENT_POSITION_PRECEDING
    return active !== document.body && precedes ? 'before' : 'behind'
"""

# Whether an element, its label or what is drawn in its place has an outline.
FOCUS_IS_SEEN = """
    const [element] = arguments
    return [element, element.nextElementSibling, element.closest('label')].some((drawn) => {
        const style = drawn && getComputedStyle(drawn)
        return style && style.outlineStyle !== 'none' && style.opacity !== '0'
    })
"""


class Page:
    """The page of the console in one browser."""

    def __init__(self, browser, axe, folder):
        self.browser = browser
        self.axe = axe
        self.folder = folder
        self.shots = 0

    def wait(self, what, holds):
        return WebDriverWait(self.browser, PATIENCE, poll_frequency=0.05, ignored_exceptions=(LookupError, StaleElementReferenceException)).until(lambda _: holds(), what)

    def one(self, selector, text=None, within=None):
        """Waits for a displayed element, and returns it."""
        script = """
            const [root, selector, text] = arguments
            return [...(root ?? document).querySelectorAll(selector)].find((element) =>
                element.checkVisibility() && (text === null || element.textContent.includes(text)))
        """
        return self.wait(f"{selector} {text or ''}", lambda: self.browser.execute_script(script, within, selector, text))

    def look(self, name):
        """Checks what is shown with axe-core in each theme, and keeps a screenshot of it."""
        for theme in THEMES:
            self.theme(theme)
            # An animation has colours in between: they are left to end.
            script = "const done = arguments[0]; Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {}))).then(() => done())"
            self.browser.execute_async_script(script)
            self.shots += 1
            self.browser.save_screenshot(str(self.folder / f"{self.shots:02}-{name}-{theme}.png"))
            if not self.browser.execute_script("return 'axe' in window"):
                self.browser.execute_script(self.axe)
            script = "const done = arguments[1]; axe.run(document, arguments[0]).then((r) => done(r.violations), (e) => done(String(e)))"
            violations = self.browser.execute_async_script(script, AXE_OPTIONS)
            if isinstance(violations, str):
                findings.append(f"{name}, {theme}: axe-core failed: {violations}")
                continue
            for violation in violations:
                places = "; ".join(f"{' '.join(node['target'])}: {node.get('failureSummary', '')}" for node in violation["nodes"][:3])
                findings.append(f"{name}, {theme}: {violation['id']}: {violation['help']} ({len(violation['nodes'])}): {places}")
        self.theme("light")

    def focus(self, element):
        """Walks to an element by keys, and checks that its focus is seen."""
        self.wait("the element can be used", element.is_enabled)
        for _ in range(400):
            place = self.browser.execute_script(PLACE, element)
            if place == "there":
                assert self.browser.execute_script(FOCUS_IS_SEEN, element), f"the focus is not seen: {element.get_attribute('outerHTML')[:200]}"
                return
            keys = ActionChains(self.browser)
            if place == "before":
                keys.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
            else:
                keys.send_keys(Keys.ARROW_RIGHT if place == "beside" else Keys.TAB).perform()
        raise LookupError(f"not reached by keys: {element.get_attribute('outerHTML')[:200]}")

    def press(self, element):
        """Walks to an element by keys, and presses it."""
        self.focus(element)
        ActionChains(self.browser).send_keys(Keys.ENTER if element.tag_name == "a" else Keys.SPACE).perform()

    def type(self, element, text):
        """Walks to a field by keys, and replaces what is in it."""
        self.focus(element)
        ActionChains(self.browser).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).send_keys(Keys.BACKSPACE, text).perform()
        assert element.get_attribute("value") == text, element.get_attribute("value")

    def theme(self, theme):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def log(self):
        """Returns what the browser complained of: refused content, failed scripts, errors."""
        # A refused request, such as one with a token that is not known yet, is answered by the page.
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE" and entry["source"] != "network"]


class Phone:
    """One phone of the page, which is used by keys alone or with the mouse."""

    def __init__(self, page, number, by_keys=False):
        self.page = page
        self.number = number
        self.by_keys = by_keys
        self.nickname = ""

    @property
    def root(self):
        return self.page.one(f"[data-phone='{self.number}']")

    def one(self, selector, text=None):
        return self.page.one(f"[data-phone='{self.number}'] {selector}", text)

    def click(self, selector, text=None):
        element = self.one(selector, text)
        if self.by_keys:
            self.page.press(element)
            return
        self.page.browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
        element.click()

    def fill(self, selector, text):
        field = self.one(selector)
        if self.by_keys:
            self.page.type(field, text)
            return
        field.clear()
        field.send_keys(text)

    def tab(self, name):
        self.click(f"[data-tab='{name}']")
        self.one(f"[data-tab='{name}'][aria-current='page']")

    def sign_in(self):
        if self.by_keys:
            self.fill("input[type='email']", f"keys-{secrets.token_hex(3)}@example.com")
        self.click("button[type='submit']")
        self.one("[type='file']")
        self.page.wait("the portrait is drawn", lambda: self.one(".avatar img").get_attribute("src"))

    def set_profile(self):
        self.nickname = self.one("input[id$='-nickname']").get_attribute("value")
        self.click("button[type='submit']")
        self.one(".tabs")
        self.one(".state.online")

    def open_conversation(self, other):
        self.tab("others")
        self.click(f"[data-author='{other.nickname}'] footer button:nth-of-type(2)")
        self.one(".bubbles")

    def say(self, text):
        self.fill(".say input", text)
        self.click(".say button")
        self.one(".bubble.own", text)


# Two requests at a time with a token that is refused: returns how many tries and re-issues it took.
REFUSED_TOKEN = """
    const done = arguments[0]
    const run = async () => {
        const { Session } = await import('/session.js')
        const { wire } = await import('/wire.js')
        const session = new Session(9)
        await session.signIn('refused@example.com', 'kakao')
        session.api.tokens.access = 'Bearer forged'
        wire.clear()
        const found = await Promise.all([1, 2].map(() => session.api.get('/auth-service/sessions')))
        const count = (call, status) => wire.rows.filter((row) => row.path.endsWith(call) && row.status === status).length
        const counts = [count('sessions', 403), count('reIssueToken', 200), count('sessions', 200)]
        await session.resign()
        wire.clear()
        return counts
    }
    run().then(done, (error) => done(String(error)))
"""


# A person reports another one, whose post a word of the list holds, and applies for a role: returns the nicknames of the reported and the reporting one.
REPORT = """
    const done = arguments[0]
    const run = async () => {
        const { Session } = await import('/session.js')
        const tag = crypto.getRandomValues(new Uint16Array(1))[0].toString(16)
        const people = []
        for (const name of ['seller', 'buyer']) {
            const session = new Session(9)
            await session.signIn(`${name}-${tag}@example.com`, 'kakao')
            await session.setProfile(name + tag, '', null)
            people.push(session)
        }
        const [seller, buyer] = people
        const { stamp } = await import('/dates.js')
        await seller.savePost({ weather: 'sunny', happiness: 3, text: 'Buy followers', date: stamp(), isPublic: true, categoryList: ['shopping'] }, [])
        await buyer.api.post('/auth-service/report', { nickname: seller.nickname, reason: 'spam', text: 'sells followers' })
        await buyer.api.post('/auth-service/applyRole', { role: 'moderator', text: 'I want to help' })
        for (const session of people) for (const socket of session.sockets) socket.close()
        return people.map((session) => session.nickname)
    }
    run().then(done, (error) => done(`failed: ${error}`))
"""


# A person signs in and resigns.
RESIGN = """
    const done = arguments[0]
    const run = async () => {
        const { Session } = await import('/session.js')
        const session = new Session(9)
        await session.signIn(`leaver-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}@example.com`, 'kakao')
        await session.resign()
        return null
    }
    run().then(done, (error) => done(`failed: ${error}`))
"""


def moderate(page):
    """Drives the page of moderators; the operator token was given before."""
    people = page.browser.execute_async_script(REPORT)
    assert not isinstance(people, str), people
    nickname, applicant = people
    page.one("nav a[href='#moderation']").click()
    page.look("moderation-sign-in")
    page.one("[data-panel='sign-in'] input[type='email']").send_keys("admin@example.com" + Keys.ENTER)
    page.one("[data-panel='role'] button").click()
    panel = lambda name, selector, text=None: page.one(f"[data-panel='{name}'] {selector}", text)

    def refreshed():
        """Loads the lists again. Feed's decisions come to auth by an event."""
        page.one("main button", "Refresh").click()
        time.sleep(0.5)
        return True

    panel("reports", "tr", nickname)
    page.look("moderation")
    panel("reports", "button", "Warn").click()
    panel("reports", ".fine")
    panel("audit", "tr", nickname)
    panel("held", "tr", nickname)
    panel("held", "button", "Release").click()
    panel("held", ".fine")
    page.wait("the decision is in the audit", lambda: refreshed() and "releaseHeld" in panel("audit", "tbody").text)
    panel("suspension", "input").send_keys(nickname)
    panel("suspension", "button", "Suspend").click()
    page.wait("the suspension is in the audit", lambda: "suspend" in panel("audit", "tbody").text)
    panel("suspension", "button", "Restore").click()
    page.wait("its end is in the audit", lambda: "restore" in panel("audit", "tbody").text)
    panel("applications", "tr", applicant)
    panel("applications", "button", "Accept").click()
    panel("applications", ".fine")
    granted = lambda: any("grantRole" in row and applicant in row for row in panel("audit", "tbody").text.splitlines())
    page.wait("the granted role is in the audit", granted)
    assert "follows from the one before" in panel("audit", ".hint").text
    page.size(*NARROW)
    overflow = page.browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"the page of moderators is {overflow} px wider than a phone"
    page.one("button[lang='ko']").click()
    panel("audit", "h2", "감사 기록")
    page.look("moderation-narrow-korean")
    page.one("button[lang='en']").click()
    page.size(*WIDE)
    page.one("main button", "Sign out").click()
    page.one("[data-panel='sign-in']")
    page.one("nav a[href='#phones']").click()
    page.one(".phone")
    say(f"moderation: {nickname} was reported, warned, suspended and restored, a held post was released, {applicant} is a moderator, and the audit is intact")


def newcomer():
    """Says how long the way from `git clone` to the first like takes, the build aside, if all of it was timed."""
    if len(waited) < 3:
        return
    total = sum(waited.values())
    say(f"a newcomer's way to the first like, the build aside: {total:.0f} s ({', '.join(f'{part} {seconds:.1f}' for part, seconds in waited.items())})")
    if total > NEWCOMER:
        findings.append(f"the way to the first like takes {total:.0f} s, more than {NEWCOMER}")


def written(phone):
    """Returns how many days of the month are written, by its plot."""
    return int(re.search(r"(\d+) days written", phone.one(".plot").get_attribute("aria-label"))[1])


def drive(page, photo, traced):
    counts = page.browser.execute_async_script(REFUSED_TOKEN)
    assert counts == [2, 1, 2], f"403, re-issues, 200: {counts}"
    say("two requests with a refused token were sent again after one re-issue")
    # Sign-in, profile, post, tabs and messages of the first phone by keys alone.
    one, two = Phone(page, 1, by_keys=True), Phone(page, 2)
    began = time.monotonic()
    page.look("sign-in")
    for phone in (one, two):
        phone.sign_in()
    page.look("profile")
    for phone in (one, two):
        phone.set_profile()
    say(f"{one.nickname} and {two.nickname} signed in, set their profiles with a photo, and opened their sockets")

    one.click(".pictures button", "")
    one.one(".thumb img")
    one.one(".pictures input[type='file']").send_keys(str(photo))
    page.wait("both photos are chosen", lambda: len(one.root.find_elements(By.CSS_SELECTOR, ".thumb img")) == 2)
    one.click(".faces input[value='5']")
    page.look("write")
    text = f"A walk by the river {secrets.token_hex(3)}"
    one.fill("textarea", text)
    one.click("button[type='submit']")
    one.one(".post .words", text)
    loaded = "return [...document.querySelectorAll('.strip img')].every((image) => image.complete && image.naturalWidth > 0)"
    page.wait("the photos are shown", lambda: page.browser.execute_script(loaded))
    say(f"{one.nickname} saved the day with two photos")

    one.one(".plot canvas")
    label = one.one(".plot").get_attribute("aria-label")
    assert "1 days written, 5.0 on average" in label, label
    # On the first day of a month no other day of it can be written: the month before is filled.
    if page.browser.execute_script("return new Date().getDate()") == 1:
        one.click(".screen-head button.round", "")
        page.wait("the month before is shown", lambda: written(one) == 0)
    one.click("button.quiet", "sample days")
    page.wait("the sample days are written", lambda: written(one) > 1)
    page.browser.execute_script("document.querySelector(\"[data-phone='1'] .view\").scrollTop = 0")

    two.tab("others")
    post = f"[data-author='{one.nickname}']"
    two.one(post)
    page.wait("the photos are shown to others", lambda: page.browser.execute_script(loaded))
    page.look("month-and-others")
    say(f"{one.nickname} sees the month's plot: {one.one('.plot').get_attribute('aria-label')}")
    page.press(two.one(f"{post} .heart"))
    one.one("[data-tab='notices'] .unread")
    one.tab("notices")
    one.one(".notice", two.nickname)
    took = page.one(".wire .tap").text
    waited["two phones to the like"] = time.monotonic() - began
    newcomer()
    page.look("like")
    say(f"{two.nickname} liked it; the notice reached {one.nickname} {took}")
    if traced:
        trace(page, "like", ".row.request button.call", "updateLike", ("publish noticeLike", "consume noticeLike", "frame on the other"))

    if traced:
        page.one("nav a[href='#operations']").click()
        page.wait("the sockets of both phones are counted", lambda: all(column(page, service, 8) == "2" for service in ("dm", "notice")))
        page.one("nav a[href='#phones']").click()

    two.click(f"{post} [data-action='comments']")
    two.one(f"{post} .comments .hint")
    two.fill(f"{post} .comments input", "What a view")
    two.click(f"{post} .comments button")
    two.one(f"{post} .comments li", "What a view")
    for action in ("bookmark", "follow"):
        two.click(f"{post} [data-action='{action}']")
        two.one(f"{post} [data-action='{action}'][aria-pressed='true']")
    one.one(".notice", "commented on your day")
    one.one(".notice", "follows you")
    page.look("comment")
    say(f"{two.nickname} commented, bookmarked and followed; the notices of two of these reached {one.nickname}")

    two.open_conversation(one)
    two.say("Where is that?")
    one.one("[data-tab='messages'] .unread")
    one.tab("messages")
    one.click(".list button.line", two.nickname)
    one.one(".bubble", "Where is that?")
    one.say("By the bridge. Come along tomorrow!")
    two.one(".bubble:not(.own)", "Come along tomorrow!")
    for phone in (one, two):
        phone.one(".bubble.own [data-mark='read']")
    page.look("messages")
    say(f"a message each way, both read; the answer came {page.one('.wire .tap').text}")
    if traced:
        steps = ("frame message", "admit", "store", "publish directMessage", "consume directMessage", "write", "frame on the other")
        trace(page, "message", ".row.sent button.call", "connect-dm", steps)

    page.one("button[lang='ko']").click()
    page.one(".wire h2", "오가는 것들")
    assert page.browser.execute_script("return document.documentElement.lang") == "ko"
    one.tab("month")
    one.one(".plot canvas")
    two.tab("settings")
    page.look("korean")
    page.one("button[lang='en']").click()
    page.one(".wire h2", "What travels")
    say("the page speaks Korean and English")

    two.tab("others")
    two.click(f"{post} footer .last")
    page.wait("the post of a blocked person is gone", lambda: not two.root.find_elements(By.CSS_SELECTOR, post))
    two.tab("settings")
    two.click("button.link", one.nickname)
    two.one(".hint", "blocked nobody")
    page.wait("the post is there again", lambda: refreshed(two, post))
    page.one(".tools > button").click()
    Phone(page, 3).click(".phone-head .round")
    page.wait("the third phone is removed", lambda: len(page.browser.find_elements(By.CSS_SELECTOR, ".phone")) == 2)
    say(f"{two.nickname} blocked {one.nickname} and lifted the block; a third phone came and went")

    page.size(*NARROW)
    overflow = page.browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"the page is {overflow} px wider than a phone"
    page.look("narrow")
    page.size(*WIDE)

    two.tab("settings")
    two.click("button.warn")
    page.look("leave")
    two.click("button.quiet", "Cancel")
    two.click("button.quiet", "Edit profile")
    introduction = "input[id$='-introduction']"
    page.wait("the introduction is there", lambda: two.one(introduction).get_attribute("value") == "I collect small joys")
    two.fill(introduction, "More joys")
    two.click("button[type='submit']")
    two.one(".card")
    two.click("button.quiet", "Edit profile")
    page.wait("the introduction is the new one", lambda: two.one(introduction).get_attribute("value") == "More joys")
    two.tab("notices")
    two.tab("settings")
    two.click("button.warn")
    two.click("button.danger")
    two.one("input[type='email']")
    one.tab("messages")
    page.wait("the messages are gone", lambda: two.nickname not in reread(one))
    one.tab("settings")
    one.click(".quiet", "Sign out")
    one.one("input[type='email']")
    say(f"{two.nickname} left, and the conversation is gone; {one.nickname} signed out")


def trace(page, name, row, call, expected):
    """Follows the newest tap through the services: once the operator token was given, its trace is drawn by itself. That of an older one is opened by its row."""

    def whole():
        text = page.one(".trace ol").text
        return text if all(step in text for step in expected) else None

    text = page.wait(f"the {name} has come through the services", whole)
    names = [line for line in text.splitlines() if line]
    assert names[0].startswith("phone") and names[-1].startswith("phone"), names
    page.look(f"trace-{name}")
    say(f"trace of the {name}, drawn by itself: {'; '.join(names)}")
    page.one(".trace button", "Close").click()
    page.wait("the trace is closed", lambda: not page.browser.find_elements(By.CSS_SELECTOR, ".trace"))
    page.one(row, call).click()
    page.wait(f"the row of the {name} opens its trace", whole)
    page.one(".trace button", "Close").click()


def live(page, operator, address, fleet):
    """Lets a few people live in the fleet for a while, and finds their promises on the page of operators, which it opens."""
    environment = os.environ | {"SOSOHAPPY_OPERATOR_TOKEN": operator.token}
    command = [fleet, "demo", "--url", address, "--console", address, "--people", "4", "--rate", "5", "--for", "5"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
    open_operations(page, operator)
    page.one("[data-panel='crowd']", "4 people")
    page.one("[data-panel='crowd']", "over")
    said, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, said
    page.look("crowd")
    say(f"a living system: {page.one('[data-panel=crowd] .hint').text}")


def open_operations(page, operator):
    """Opens the page of operators, which refuses a forged token."""
    page.one("nav a[href='#operations']").click()
    for token in ("a forged token", operator.token):
        field = page.one("#operator-token")
        field.clear()
        field.send_keys(token + Keys.ENTER)
        if token != operator.token:
            page.one(".failure", "credential is required")
            page.look("operator-token")


def column(page, service, index):
    """Returns a cell of a service's row on the page of operators."""
    script = "return [...document.querySelectorAll('[data-panel=services] tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
    return {row[0]: row for row in page.browser.execute_script(script)}[service][index]


# The pixels of a plot that have the colour of a line; a line that is drawn is more opaque than its edges.
DRAWN = """
    const [name] = arguments
    const canvas = document.querySelector(`[data-panel='${name}'] .plot canvas`)
    if (!canvas?.checkVisibility()) return 0
    const keys = document.querySelectorAll(`[data-panel='${name}'] .key`)
    const colours = Array.from(keys, (key) => getComputedStyle(key).backgroundColor.match(/\\d+/g).map(Number))
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    let drawn = 0
    for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] >= 128 && colours.some((colour) => [0, 1, 2].every((part) => Math.abs(data[at + part] - colour[part]) < 16))) drawn += 1
    }
    return drawn
"""


def operate(page, operator):
    """Drives the page of operators."""
    panel = lambda name, selector, text=None: page.one(f"[data-panel='{name}'] {selector}", text)
    rows = lambda name: page.browser.execute_script("return [...document.querySelectorAll(`[data-panel='${arguments[0]}'] tbody tr`)].map((r) => r.innerText)", name)
    page.wait("all services are up", lambda: sum("UP" in row for row in rows("services")) == len(SERVICES))
    page.wait("four instances have the newest settings", lambda: sum("newest" in row for row in rows("settings")) == 4)
    panel("flags", "th", "new-year")
    panel("letters", ".fine")
    panel("resignations", ".fine")
    page.wait("the rate of requests is known", lambda: all(row.split("\t")[2] != "–" for row in rows("services")))
    # Pending records of the outbox, the age of the oldest, whether the relay leads, lag.
    idle = lambda service: column(page, service, 4) == "0" and column(page, service, 5) == "0" and column(page, service, 6) == "1" and column(page, service, 7) == "0"
    page.wait("outboxes and lags are empty", lambda: all(idle(service) for service in ("feed", "dm", "notice")))
    assert re.fullmatch(r"\d+ wait; the first of them has been due for \d+ s", panel("pushes", ".hint").text), panel("pushes", ".hint").text
    pushes = [count.text for count in page.browser.find_elements(By.CSS_SELECTOR, "[data-panel='pushes'] .counts li")]
    assert {"sent", "grouped", "no-device", "given-up"} <= {count.split()[-1] for count in pushes} and all(count.split()[0].isdigit() for count in pushes), pushes
    for plot in ("rate", "p95"):
        page.wait(f"lines are drawn in the plot {plot}", lambda: page.browser.execute_script(DRAWN, plot) > 0)
    say("operations: five services are up, four instances have the newest settings, outboxes are published, push counts are shown, two plots are drawn")

    operator.configure("50%")
    version = panel("settings", ".hint").text
    panel("settings", "button", "Start canary").click()
    panel("settings", "[data-canary='running']")
    page.look("operations")
    panel("settings", "button", "Stop canary").click()
    panel("settings", "[data-canary='rolled-back']")
    say("operations: a canary was started and stopped")
    # A version that was rolled back is not published again.
    operator.configure("75%")
    panel("settings", "button", "Refresh all").click()
    page.wait("the new version is published", lambda: version.split()[1] not in panel("settings", ".hint").text)
    page.wait("the fleet converges", lambda: "every instance runs it" in panel("settings", ".hint").text)
    say(f"operations: {panel('settings', '.hint').text}")

    set_flag(page, "new-year", "75%")
    assert page.browser.execute_script("return !document.querySelector('.failure').textContent"), page.one(".failure").text

    page.size(*NARROW)
    overflow = page.browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"the page of operators is {overflow} px wider than a phone"
    page.one("button[lang='ko']").click()
    panel("alerts", "h2", "경보")
    page.look("operations-narrow-korean")
    page.one("button[lang='en']").click()
    page.size(*WIDE)
    stored = page.browser.execute_script("return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")
    assert operator.token not in stored, "the page stores the operator token"
    page.one("nav a[href='#phones']").click()
    page.one(".phone")


def set_flag(page, flag, value):
    """Sets a flag on the open page of operators, by keys alone; an empty value removes it."""
    page.one("[data-panel='flags']")
    fields = page.browser.find_elements(By.CSS_SELECTOR, "[data-panel='flags'] input")
    for field, text in zip(fields, (flag, value)):
        page.type(field, text)
    button = page.one("[data-panel='flags'] button")
    page.press(button)
    page.wait("the flag is sent", button.is_enabled)


def break_down(page):
    """Switches faults on and off: phones and operators see what they do. The operator token was given before."""

    def switch(value, status):
        page.one("nav a[href='#operations']").click()
        set_flag(page, "fault.errors", value)
        script = "const done = arguments[0]; fetch('/auth-service/sessions').then((answer) => done(answer.status), String)"
        page.wait(f"auth answers {status}", lambda: page.browser.execute_async_script(script) == status)

    phone = Phone(page, 1)
    switch("true", 503)
    page.one("nav a[href='#phones']").click()
    phone.one("input[type='email']").send_keys(Keys.ENTER)
    phone.one(".failure", "did not work")
    page.look("fault")
    switch("", 403)
    say("a fault: with fault.errors the sign-in fails and says so; without it, auth answers as before")

    letters = lambda: page.browser.find_elements(By.CSS_SELECTOR, "[data-panel='letters'] tbody tr")
    set_flag(page, "fault.poison-record", "true")
    deadline = time.monotonic() + 2 * PATIENCE
    # The switch is read after it was sent, and the list of dead letters every ten seconds.
    while not letters():
        assert time.monotonic() < deadline, "no record was rejected"
        page.browser.execute_async_script(REPORT)
        with contextlib.suppress(TimeoutException):
            WebDriverWait(page.browser, 15).until(lambda _: letters())
    page.one("[data-panel='alerts'] li[data-fires='true']", "DeadLetters")
    page.look("dead-letters")
    found = len(letters())
    set_flag(page, "fault.poison-record", "")

    def replayed():
        for button in page.browser.find_elements(By.CSS_SELECTOR, "[data-panel='letters'] > button"):
            if button.is_enabled():
                page.browser.execute_script("arguments[0].click()", button)
        return not letters() and page.browser.find_elements(By.CSS_SELECTOR, "[data-panel='letters'] .fine")

    page.wait("all dead letters are replayed", replayed)
    say(f"a fault: with fault.poison-record {found} records became dead letters and an alert; without it, all were replayed")
    stall(page)
    page.one("nav a[href='#phones']").click()


def stall(page):
    """Stalls the consumers on the open page of operators: a resignation waits for its receipts."""
    script = "return [...document.querySelectorAll('[data-panel=resignations] tbody tr')].map((row) => row.cells[3].textContent)"
    missing = lambda: page.browser.execute_script(script)
    are_missing = lambda: any(all(service in cell for service in ("feed", "dm", "notice")) for cell in missing())
    set_flag(page, "fault.stalled-consumer", "true")
    deadline = time.monotonic() + 2 * PATIENCE
    # The switch is read after it was sent: a resignation before that is finished. The list is read every ten seconds.
    while not are_missing():
        assert time.monotonic() < deadline, f"no resignation waits for all receipts: {missing()}"
        failure = page.browser.execute_async_script(RESIGN)
        assert failure is None, failure
        with contextlib.suppress(TimeoutException):
            WebDriverWait(page.browser, 15).until(lambda _: are_missing())
    named = missing()[0]
    page.look("resignations")
    set_flag(page, "fault.stalled-consumer", "")
    page.one("[data-panel='resignations'] .fine")
    say(f"a fault: with fault.stalled-consumer a resignation lacks the receipts of {named}; without it, it is finished")


def refreshed(phone, selector):
    """Opens others' posts anew, and returns whether the loaded ones include that."""
    phone.tab("notices")
    phone.tab("others")
    phone.one(".post, .empty")
    return phone.root.find_elements(By.CSS_SELECTOR, selector)


def reread(phone):
    """Opens the conversations anew, and returns their text."""
    phone.tab("notices")
    phone.tab("messages")
    phone.one(".line, .empty")
    return phone.root.text


# The files of the last load that did not come from the entry.
CACHED = """
    const files = new Map()
    for (const { name, transferSize, encodedBodySize } of performance.getEntriesByType('resource')) {
        if (name.startsWith(location.origin)) files.set(name, files.get(name) || transferSize > encodedBodySize)
    }
    return Array.from(files, ([name, isSent]) => (isSent ? null : name)).filter(Boolean)
"""


def first_paint(page, address):
    """Returns the milliseconds until the first text or picture is drawn: the median of some loads, none of which finds a file in a cache."""
    script = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    times = []
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    for _ in range(LOADS):
        page.browser.execute_cdp_cmd("Network.clearBrowserCache", {})
        page.browser.get(address)
        page.one(".phone")
        times.append(page.wait("the page is painted", lambda: page.browser.execute_script(script)))
        cached = page.browser.execute_script(CACHED)
        assert not cached, f"a load without a cache has found {cached} in one"
    page.browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})
    return statistics.median(times)


def run(address, operator, given, axe, folder):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        browser.set_script_timeout(PATIENCE)
        page = Page(browser, axe, folder)
        try:
            page.size(*WIDE)
            page.theme("light")
            paint = first_paint(page, address)
            say(f"first contentful paint after {paint:.0f} ms, without a cache")
            if paint > FIRST_PAINT:
                findings.append(f"the first contentful paint took {paint:.0f} ms, more than {FIRST_PAINT}")
            loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
            findings.extend(f"the page of phones loads {name}" for name in loaded if "/operations/" in name or "/moderation/" in name)
            shift = "return performance.getEntriesByType('layout-shift').reduce((sum, entry) => sum + entry.value, 0)"
            photo = Path(profile) / "photo.png"
            photo.write_bytes(photo_png())
            if operator:
                live(page, operator, address, given)
                operate(page, operator)
                moderate(page)
                break_down(page)
            drive(page, photo, traced=operator)
            findings.extend(f"the browser says: {entry}" for entry in page.log())
            if shifted := browser.execute_script(shift):
                findings.append(f"the layout shifts by {shifted}")
            say(f"{page.shots} screenshots in {folder}")
        except BaseException:
            browser.save_screenshot(str(folder / "failed.png"))
            print("\n".join(page.log()), file=sys.stderr)
            raise
        finally:
            browser.quit()


def main():
    given, axe, folder, seconds = sys.argv[1:]
    if int(seconds):
        waited["clone and set-up"] = int(seconds)
    with fleet(given) as (address, operator):
        weigh(address)
        preloads()
        switches()
        run(address, operator, given, Path(axe).read_text(), Path(folder))
    for finding in findings:
        print(f"error: {finding}", file=sys.stderr)
    if findings:
        sys.exit(1)
    say("axe-core: no violations, in light and dark")


if __name__ == "__main__":
    main()
