from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.comparisons import open_preference_comparisons
from generation.models import Policy


class Command(BaseCommand):
    help = (
        "Put the stories of the policy in use before experts, for prompts where that has not happened yet: after "
        "import_prompts and write_stories."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        policy = Policy.objects.current()
        if policy is None:
            raise CommandError("There is no policy in use yet: run make demo, or register a base model first.")
        self.stdout.write(f"{open_preference_comparisons(policy=policy)} comparisons opened.")
