"""An invitation's link by e-mail. It is sent while the admin waits: for later, the link would have to be kept."""

from smtplib import SMTPException

from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from config.models import Invitation


class NotSent(RuntimeError):
    """The mail server did not take it; the message says why."""


def send_invitation(invitation: Invitation, *, link: str) -> None:
    """To the address that the invitation is bound to, in the admin's language. Raises NotSent."""
    told = {"invitation": invitation, "link": link}
    body = render_to_string("account/email/invitation_message.txt", told)
    mail = EmailMessage(_("An invitation to Storyloop"), body, to=[invitation.email])
    try:
        mail.send()
    except (SMTPException, OSError) as error:
        raise NotSent(_("The mail server did not take it: %(error)s") % {"error": error}) from error
