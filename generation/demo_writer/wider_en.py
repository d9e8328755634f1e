"""More English plots, messages, sights and wordings, for the case study's writer (corpus.py says why)."""

Plot = tuple[str, str, str, str]

# theme -> (four more plots: wish, problem, deed, result; four more messages)
MORE: dict[str, tuple[tuple[Plot, ...], tuple[str, ...]]] = {
    "friendship": (
        (
            (
                "hoped to join the game in the yard", "the others said there were too many already",
                "asked kindly and offered to keep the score", "all of them took turns and laughed",
            ),
            (
                "drew a card for a friend who had moved away", "the card got wet on the way to the post box",
                "drew a new one and walked there under an umbrella", "a letter with a big heart came back",
            ),
            (
                "wrote a play for two", "the friend next door was ill in bed",
                "carried the puppets over and played at the bedside", "both of them giggled until supper",
            ),
            (
                "made a boat from a shoe box", "a friend said it was an ugly boat",
                "asked the friend to paint it", "it was the most colorful boat on the pond",
            ),
        ),
        (
            "friends make room for one more", "friends stay close even when they are far away",
            "friends can disagree and still play", "a friend cheers us up",
        ),
    ),
    "honesty": (
        (
            (
                "was minding the shop for an hour", "one coin too many lay in the box",
                "ran after the lady and gave the coin back", "the lady thanked the whole family",
            ),
            (
                "was painting a picture for the wall", "a drop of paint fell on the new carpet",
                "went to say what had happened", "they cleaned the carpet together and laughed",
            ),
            (
                "borrowed a book from the teacher", "a page tore right down the middle",
                "showed the teacher the page", "the teacher found some tape and smiled",
            ),
            (
                "played a game of cards", "nobody saw the card under the chair",
                "picked it up and told the others", "they began again and had more fun",
            ),
        ),
        (
            "people trust those who say what is so", "a mistake is soon mended when we own up to it",
            "fair play feels better than winning", "telling the truth makes others trust us",
        ),
    ),
    "courage": (
        (
            (
                "was to sing in front of the whole school", "no sound came out at first",
                "looked at one kind face and began again", "they all clapped for a long time",
            ),
            (
                "wanted to learn how to dive", "the water looked deep and cold",
                "counted to three and jumped", "it was the best splash of the summer",
            ),
            (
                "wanted to ride the big white horse", "the horse was as tall as a house",
                "patted its nose and climbed up", "they trotted once around the field",
            ),
            (
                "had to stay with the dentist", "the chair made strange sounds",
                "opened wide and thought of the sea", "it was over before the song had ended",
            ),
        ),
        (
            "the first step is the hardest one", "we can be small and brave at once",
            "our knees may shake and still carry us", "asking for a hand is brave, too",
        ),
    ),
    "sharing": (
        (
            (
                "had the only sled on the hill", "all the others stood and watched",
                "let each child ride down in turn", "the hill was full of happy shouts",
            ),
            (
                "got a large piece of honey cake", "a hungry stranger sat beside the road",
                "cut the cake into two halves", "the stranger told the best stories",
            ),
            (
                "owned a whole box of toy trains", "the smallest one at the table had none",
                "pushed the red train over the table", "they built a track through every room",
            ),
            (
                "had an umbrella with blue dots", "heavy rain fell and two ducks had none",
                "held the umbrella over all three", "only their toes got wet",
            ),
        ),
        (
            "half a cake with a friend tastes better", "what we give comes back to us",
            "there is room for two under one roof", "toys are happier in many hands",
        ),
    ),
    "kindness": (
        (
            (
                "was shopping at the market", "a lost puppy was crying between the stalls",
                "gave it some milk and looked for its owner", "the owner hugged them both",
            ),
            (
                "sat in the back of the class", "the new child had nobody to sit with",
                "moved over and pointed at the free chair", "the two shared a desk all year",
            ),
            (
                "was on the way to a feast", "a turtle lay on its back in the dust",
                "turned it over with both hands", "the turtle came along to the feast",
            ),
            (
                "had a free afternoon", "the mailman had hurt his foot",
                "took the letters from door to door", "the mailman whistled a song of thanks",
            ),
        ),
        (
            "a kind word costs nothing", "we should treat others gently",
            "help is the best gift", "nobody is too small to be kind",
        ),
    ),
    "patience": (
        (
            (
                "wanted to catch a fish for supper", "no fish came near the hook",
                "sat still and watched the water", "a fat silver fish took the hook",
            ),
            (
                "was knitting a scarf for winter", "the wool got into a big knot",
                "opened the knot, one loop after the other", "the scarf was long and warm",
            ),
            (
                "was waiting for the first snow", "the sky stayed grey for weeks",
                "cut paper flakes for every window", "one morning the whole world was white",
            ),
            (
                "tried to make friends with a shy cat", "the cat ran off at every step",
                "sat in the grass each day and read aloud", "the cat fell asleep on the warm book",
            ),
        ),
        ("slow work can be good work", "those who wait see more", "trust grows slowly", "waiting can be a game"),
    ),
    "curiosity": (
        (
            (
                "heard a soft hum behind the barn", "the door was closed with a rusty lock",
                "looked through a tiny hole and wrote down each thing", "there stood an old clock that still worked",
            ),
            (
                "wondered why the moon changes its shape", "all the grown-ups gave another answer",
                "drew the moon each night for a month", "the pictures showed how it grows and shrinks",
            ),
            (
                "dug a hole under the oak", "the spade hit something hard",
                "brushed the sand off with a soft brush", "it was a bone from long, long before",
            ),
            (
                "wanted to know where the river began", "the path ended at a wall of thorns",
                "followed the water up over the stones", "it came out of the hill, cold and clear",
            ),
        ),
        (
            "looking closely shows us secrets", "every answer begins with a why",
            "small questions lead to great finds", "those who look will find",
        ),
    ),
    "family": (
        (
            (
                "planned a surprise for a birthday", "all the candles had been lost",
                "made lights from jars and paper", "the room shone like a starry sky",
            ),
            (
                "was cross with the baby next to the bed", "the baby cried and did not sleep",
                "hummed the old song of the house", "the baby held one finger and slept",
            ),
            (
                "was baking bread with the cousins", "the flour was all over the floor",
                "handed out brooms and made it a race", "the kitchen shone and the bread smelled good",
            ),
            (
                "missed grandma very much", "she lived too far away to visit",
                "packed drawings into a large letter", "she rang up and laughed for joy",
            ),
        ),
        (
            "love at home makes us strong", "small ones need us to be gentle",
            "a family shares the work", "love can travel a long way",
        ),
    ),
    "nature": (
        (
            (
                "found a hedgehog in the garden", "it had no place for the cold winter",
                "built a hut from leaves and sticks", "in spring it came out with its young",
            ),
            (
                "wanted to pick all the flowers of the field", "the bees had nothing left to eat",
                "left the flowers and sowed some more", "the field was humming and bright",
            ),
            (
                "kept a little frog in a jar", "the frog would not eat or jump",
                "took the jar back to the pond", "the frog sang there every night",
            ),
            (
                "was having lunch at the beach", "a gull had string around its leg",
                "cut the string with great care", "the gull flew circles over the sea",
            ),
        ),
        (
            "each creature needs a home", "what we leave alone can grow",
            "wild things want to be free", "clean beaches are good for all",
        ),
    ),
    "perseverance": (
        (
            (
                "wanted to build a tall tower", "it fell down at every gust of wind",
                "put the big stones at the bottom this time", "the tower stood all through the storm",
            ),
            (
                "was learning to play the flute", "there were only squeaks and whistles",
                "played the same short tune every evening", "the neighbors opened their windows to listen",
            ),
            (
                "wanted to draw a horse", "every horse came out like a dog",
                "filled a whole book with horses", "the last one looked ready to run",
            ),
            (
                "was climbing the rope at school", "the hands slipped again and again",
                "rubbed them with chalk and pulled once more", "the bell at the top rang out",
            ),
        ),
        (
            "falling down is part of learning", "those who keep going get there",
            "practice makes it lighter", "one more try may be the one",
        ),
    ),
}  # fmt: skip

# What was seen on the way: told in every story, sound or not.
SIGHTS = (
    "a red kite", "a sleepy cat", "two white ducks", "a row of tall flowers", "a green boat",
    "a man with a drum", "a snail on a stone", "an apple tree", "a yellow butterfly", "a small bridge",
    "a sheep with a bell", "a basket of plums", "a blue door", "some busy ants", "a funny hat", "a hill of hay",
    "a spider at work", "a loaf of warm bread", "a frog in the mud", "a cart full of corn",
)  # fmt: skip
SEEN = (
    "On the way there was {sight}, and then {other_sight}.",
    "{name} stopped to look at {sight} and {other_sight}.",
    "Not far away stood {sight} beside {other_sight}.",
)

# More ways to say what the grammar says.
OPENINGS = (
    "There once was a {hero} whose name was {name}.", "Once there was a merry {hero} called {name}.",
    "Not so long ago there was a {hero} known as {name}.",
)  # fmt: skip
DAYS = (
    "Then came a morning when {name} {wish}.", "It was a fine day, and {name} {wish}.",
)  # fmt: skip
PROBLEMS = (
    "Trouble came soon: {problem}.", "However, {problem}.",
)  # fmt: skip
FELT = (
    "This made {name} feel {feeling}.", "Oh, how {feeling} {name} was!",
)  # fmt: skip
HELPED = (
    "{helper_cap} sat down beside {name} and nodded.", "Just then {helper} passed and stopped to listen.",
)  # fmt: skip
DEEDS = (
    "A little later {name} {deed}.", "Right away {name} {deed}.",
)  # fmt: skip
ENDINGS = (
    "When evening came, at last {result}.", "Finally {result}, and all was well.",
)  # fmt: skip
HAPPY = (
    "{name} told {family} all about it.", "The moon looked in at the window and smiled.",
    "{name} hugged {family} and sang.",
)  # fmt: skip
MESSAGES = (
    "The lesson was clear: {message}.", "{name} will always remember that {message}.",
)  # fmt: skip
