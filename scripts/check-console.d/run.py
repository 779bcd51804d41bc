"""Drives two phones of the console in Chromium against a running fleet, and holds each page to axe-core.

usage: run.py ADDRESS AXE FOLDER

ADDRESS is that of the fleet's entry, AXE the file axe.min.js; screenshots go to FOLDER.
"""

import secrets
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60
# Milliseconds until the first text or picture is drawn; the target of the project is 300, a busy machine gets more.
FIRST_PAINT = 1_000
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

findings = []


def say(text):
    print(text, flush=True)


class Page:
    """The page of the console in one browser."""

    def __init__(self, browser, axe, folder):
        self.browser = browser
        self.axe = axe
        self.folder = folder
        self.shots = 0

    def wait(self, what, holds):
        return WebDriverWait(self.browser, PATIENCE, poll_frequency=0.05, ignored_exceptions=(LookupError,)).until(lambda _: holds(), what)

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
    """One phone of the page."""

    def __init__(self, page, number):
        self.page = page
        self.number = number
        self.nickname = ""

    @property
    def root(self):
        return self.page.one(f"[data-phone='{self.number}']")

    def one(self, selector, text=None):
        return self.page.one(f"[data-phone='{self.number}'] {selector}", text)

    def click(self, selector, text=None):
        element = self.one(selector, text)
        self.page.browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
        element.click()

    def fill(self, selector, text):
        field = self.one(selector)
        field.clear()
        field.send_keys(text)

    def tab(self, name):
        self.click(f"[data-tab='{name}']")
        self.one(f"[data-tab='{name}'][aria-current='page']")

    def sign_in(self):
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


def drive(page, photo):
    one, two = Phone(page, 1), Phone(page, 2)
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
    one.click("button.quiet", "sample days")
    page.wait("the sample days are written", lambda: "1 days" not in one.one(".plot").get_attribute("aria-label"))
    page.browser.execute_script("document.querySelector(\"[data-phone='1'] .view\").scrollTop = 0")

    two.tab("others")
    post = f"[data-author='{one.nickname}']"
    two.one(post)
    page.wait("the photos are shown to others", lambda: page.browser.execute_script(loaded))
    page.look("month-and-others")
    say(f"{one.nickname} sees the month's plot: {one.one('.plot').get_attribute('aria-label')}")
    two.click(f"{post} .heart")
    one.one("[data-tab='notices'] .unread")
    one.tab("notices")
    one.one(".notice", two.nickname)
    took = page.one(".wire .tap").text
    page.look("like")
    say(f"{two.nickname} liked it; the notice reached {one.nickname} {took}")

    two.open_conversation(one)
    two.say("Where is that?")
    one.one("[data-tab='messages'] .unread")
    one.tab("messages")
    one.click(".list button.line", two.nickname)
    one.one(".bubble", "Where is that?")
    one.say("By the bridge. Come along tomorrow!")
    two.one(".bubble:not(.own)", "Come along tomorrow!")
    page.look("messages")
    say(f"a message each way; the answer came {page.one('.wire .tap').text}")

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

    page.size(*NARROW)
    overflow = page.browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"the page is {overflow} px wider than a phone"
    page.look("narrow")
    page.size(*WIDE)

    two.tab("settings")
    two.click("button.warn")
    page.look("leave")
    two.click("button.danger")
    two.one("input[type='email']")
    one.tab("messages")
    page.wait("the messages are gone", lambda: two.nickname not in reread(one))
    one.tab("settings")
    one.click(".quiet", "Sign out")
    one.one("input[type='email']")
    say(f"{two.nickname} left, and the conversation is gone; {one.nickname} signed out")


def reread(phone):
    """Opens the conversations anew, and returns their text."""
    phone.tab("notices")
    phone.tab("messages")
    list_or_none = phone.page.one(f"[data-phone='{phone.number}'] .list, [data-phone='{phone.number}'] .empty")
    return phone.root.text if list_or_none else ""


def first_paint(page):
    """Returns the milliseconds until the first text or picture is drawn."""
    script = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    return page.wait("the page is painted", lambda: page.browser.execute_script(script))


def main():
    address, axe, folder = sys.argv[1:]
    folder = Path(folder)
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
        browser.set_script_timeout(PATIENCE)
        page = Page(browser, Path(axe).read_text(), folder)
        try:
            page.size(*WIDE)
            page.theme("light")
            browser.get(address)
            page.one(".phone")
            paint = first_paint(page)
            say(f"first contentful paint after {paint:.0f} ms")
            if paint > FIRST_PAINT:
                findings.append(f"the first contentful paint took {paint:.0f} ms, more than {FIRST_PAINT}")
            photo = Path(profile) / "photo.png"
            photo.write_bytes(page.one(".phone").screenshot_as_png)
            drive(page, photo)
            findings.extend(f"the browser says: {entry}" for entry in page.log())
            shift = browser.execute_script("return performance.getEntriesByType('layout-shift').reduce((sum, entry) => sum + entry.value, 0)")
            say(f"{page.shots} screenshots in {folder}")
            if shift:
                findings.append(f"the layout shifts by {shift}")
        except BaseException:
            browser.save_screenshot(str(folder / "failed.png"))
            say("\n".join(page.log()))
            raise
        finally:
            browser.quit()
    for finding in findings:
        print(f"error: {finding}", file=sys.stderr)
    if findings:
        sys.exit(1)
    say("axe-core: no violations, in light and dark")


if __name__ == "__main__":
    main()
