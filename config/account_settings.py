"""Settings of accounts: allauth's, its rate limits, where they are counted (docs/accounts.md, docs/adr/0014)."""

from config import env

DEMO = env.boolean("STORYLOOP_DEMO")
# the demo's logins stand on the screen: a second factor would only be in the way
SECOND_FACTOR = env.choice("STORYLOOP_SECOND_FACTOR", "none" if DEMO else "admins")
SESSION_COOKIE_AGE = 60 * 60 * env.integer("STORYLOOP_SESSION_HOURS")  # from logging in on
SESSION_IDLE_SECONDS = 60 * 60 * env.integer("STORYLOOP_IDLE_HOURS")  # without any page

# How often somebody may try is counted for all processes together, and a time-based code works once in all of
# them: in the database. What only saves work stays in each process.
_IN_PROCESS = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "config_cacheentry",
        "OPTIONS": {"MAX_ENTRIES": 100_000},  # a few names tried must not push the count of another out
    },
    "local": _IN_PROCESS,
    "template_fragments": _IN_PROCESS,
}

ACCOUNT_APPS = ["allauth", "allauth.account", "allauth.mfa"]
ACCOUNT_ADAPTER = "config.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"  # to log in; an address that is changed has to be confirmed
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Storyloop] "
ACCOUNT_LOGIN_ON_PASSWORD_RESET = False  # the second factor is asked for as ever
ACCOUNT_RATE_LIMITS = {
    # a school's teachers come from one address; each try is one password hash
    "login": "300/m/ip",
    "login_failed": "60/m/ip,5/5m/key",
    "invitation": "60/m/ip",
}
ALLAUTH_TRUSTED_PROXY_COUNT = env.integer("STORYLOOP_PROXIES", int(env.boolean("STORYLOOP_BEHIND_PROXY")))
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True  # where there is no mail server nobody could confirm an address
MFA_TOTP_ISSUER = "Storyloop"
MFA_TOTP_TOLERANCE = 1  # a phone's clock may be 30 seconds off
MFA_FORMS = {"authenticate": "config.forms_accounts.CodeForm", "reauthenticate": "config.forms_accounts.CodeAgainForm"}
