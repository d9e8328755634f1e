"""What other apps may want to hear of: nothing here knows them."""

from django.dispatch import Signal

stories_written = Signal()  # run: a WritingRun that was begun on the page and is done; may be sent twice
weights_left = Signal()  # policy: a Policy that a command has copied out of the installation
