"""English children's stories by grammar: the words. How they are put together: corpus.py."""

HEROES = (
    "rabbit", "bear", "fox", "duck", "mouse", "frog", "owl", "cat", "dog", "pig", "lamb", "hen",
    "boy", "girl", "dragon", "turtle",
)  # fmt: skip
NAMES = (
    "Dot", "Lily", "Max", "Ben", "Mia", "Tom", "Ruby", "Sam", "Nina", "Leo", "Pip", "Anna",
    "Finn", "Zoe", "Oscar", "Bella",
)  # fmt: skip
PLACES = (
    "near a green wood", "by a blue lake", "in a small red house", "on a sunny farm",
    "at the foot of a hill", "beside a quiet river", "in a warm little town", "under a big old tree",
)  # fmt: skip
FAMILY = ("mother", "father", "grandma", "grandpa", "brother", "sister")
HELPERS = (
    "an old owl", "a kind teacher", "a wise turtle", "a small bird", "a friendly bee",
    "a good neighbor", "a brown squirrel", "a gentle horse",
)  # fmt: skip
FEELINGS = ("sad", "worried", "afraid", "very cross", "lonely", "upset")
SKIES = (
    "The sun was warm and the sky was blue.", "Soft rain fell on the grass.",
    "The wind sang in the trees.", "Little flowers grew all around.",
    "White clouds went slowly by.", "The birds sang a happy song.",
)  # fmt: skip

# theme -> (phrase for the prompt, wish, problem, deed, result, message)
THEMES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "friendship": (
        "friendship",
        ("wanted to find a friend", "wanted to play with the new child next door"),
        ("nobody came to play", "two friends began to fight over a ball"),
        ("said hello with a big smile", "said sorry and gave back the ball"),
        ("they played together all day", "the two were best friends again"),
        ("a good friend listens and cares", "a true friend says sorry"),
    ),
    "honesty": (
        "telling the truth",
        ("was playing in the kitchen", "was running around the house"),
        ("the blue cup fell and broke", "the big window broke with a crash"),
        ("told the truth about it", "said, \"It was me, and I am sorry\""),
        ("nobody was angry any more", "everyone was proud and gave a hug"),
        ("it is brave to tell the truth", "the truth makes the heart light"),
    ),
    "courage": (
        "being brave",
        ("wanted to cross the high bridge", "had to walk home in the dark"),
        ("the bridge was shaking in the wind", "there was a strange noise behind the bush"),
        ("took a deep breath and went on step by step", "held a small lamp and looked"),
        ("the other side was full of sweet berries", "it was only a tiny lost kitten"),
        ("being brave means trying even when you are scared", "fear gets small when you look at it"),
    ),
    "sharing": (
        "sharing",
        ("found a basket of red apples", "got a box of new crayons"),
        ("there was only one basket and many hungry friends", "a little friend had no crayons at all"),
        ("gave one apple to each friend", "put the crayons in the middle of the table"),
        ("everyone had a lovely picnic", "they made one great picture together"),
        ("sharing makes joy grow", "things are more fun when we share"),
    ),
    "kindness": (
        "being kind",
        ("was walking to school", "went out to pick flowers"),
        ("a baby bird lay on the ground and could not fly", "an old man could not carry his heavy bag"),
        ("made a soft nest and brought some water", "took one side of the bag and helped"),
        ("the bird flew up and sang", "the old man smiled and told a funny story"),
        ("a small kind act can help a lot", "being kind makes two people happy"),
    ),
    "patience": (
        "learning to wait",
        ("planted a seed in a pot", "wanted to bake a cake"),
        ("nothing grew for many days", "the cake was not ready and smelled too soft"),
        ("gave it water each day and waited", "sat down and waited for the bell"),
        ("a yellow flower opened in the sun", "the cake was high and golden"),
        ("good things take time", "waiting is easier when we care for something"),
    ),
    "curiosity": (
        "asking questions",
        ("saw a bright light in the garden", "found a strange shiny stone"),
        ("nobody knew what it was", "it was gone when the others came"),
        ("asked many questions and looked in a book", "followed the tiny marks on the ground"),
        ("it was a family of fireflies", "a funny black bird had taken it to its nest"),
        ("asking questions helps us learn", "the world is full of things to find out"),
    ),
    "family": (
        "family",
        ("wanted to make a gift for the family", "wanted to go out and play alone"),
        ("the paper tore in two", "it got late and the path was lost"),
        ("asked for help and tried again together", "called loudly and stayed under a tree"),
        ("the gift was the best of all", "the whole family came with lamps and hugs"),
        ("a family helps each other", "home is where someone waits for you"),
    ),
    "nature": (
        "taking care of nature",
        ("went to swim in the lake", "went to see the little trees"),
        ("there was trash all over the water", "the leaves were dry and brown"),
        ("picked up the trash with some friends", "carried water to the trees every morning"),
        ("the fish came back and jumped", "the trees were green again"),
        ("we must take care of the earth", "plants and animals need our help"),
    ),
    "perseverance": (
        "not giving up",
        ("wanted to ride a bike", "wanted to learn to swim"),
        ("it was too hard and there were many falls", "the water went up the nose"),
        ("tried again and again every day", "practiced a little more each morning"),
        ("the bike went all the way down the road", "swimming was as easy as a song"),
        ("we can learn hard things if we do not give up", "every try makes us better"),
    ),
}  # fmt: skip

STORY_TYPES = {
    "adventure": "an adventure story",
    "fable": "a fable",
    "everyday": "an everyday story",
    "fairy_tale": "a fairy tale",
    "bedtime": "a bedtime story",
}

# Sentences far too hard for readers of 5-8; {hero} and {name} are filled in.
HARD = (
    "The {hero} contemplated the inevitable consequences with considerable apprehension.",
    "An extraordinary sequence of circumstances had necessitated immediate deliberation.",
    "{name} experienced an overwhelming sensation of melancholy and bewilderment.",
    "The predicament appeared fundamentally incomprehensible to the perplexed {hero}.",
    "Nevertheless, the phenomenon demonstrated remarkable complexity.",
    "{name} subsequently acknowledged the significance of the aforementioned situation.",
    "The atmosphere exhibited a profound and inexplicable tranquility.",
    "Such ambiguous philosophical considerations inevitably preoccupied {name}.",
)

PROMPTS = (
    "Write {type} for children aged {band} about {theme}. The hero is a {hero} named {name}.",
    "Tell {type} about a {hero} named {name} and {theme}. Readers are {band} years old.",
    "A {hero} named {name} learns about {theme}. Write it as {type} for ages {band}.",
)

OPENINGS = (
    "Once upon a time there was a little {hero} named {name}.",
    "Long ago there lived a young {hero} named {name}.",
    "There was once a small {hero} called {name}.",
)
LIVED = "{name} lived {place} with {family}."
DAYS = ("One day {name} {wish}.", "One morning {name} {wish}.")
PROBLEMS = ("But {problem}.", "Then there was a problem: {problem}.", "Suddenly {problem}.")
FELT = ("{name} felt {feeling}.", "{name} was {feeling}.")
HELPED = (
    "Then {helper} came by and said, \"I can help you.\"",
    "{helper_cap} asked, \"What is wrong?\"",
    "{helper_cap} said, \"Let us think together.\"",
)  # fmt: skip
DEEDS = ("So {name} {deed}.", "Then {name} {deed}.")
ENDINGS = ("In the end {result}.", "At last {result}.", "Finally, {result}.")
HAPPY = (
    "{name} went home with a happy heart.", "That night {name} slept well.",
    "Everyone laughed and danced.", "{name} and {family} had warm soup.",
)  # fmt: skip
MESSAGES = (
    "{name} learned that {message}.", "From that day on, {name} knew that {message}.",
    "And {name} understood that {message}.",
)  # fmt: skip
# What a story without an opening, a problem or an ending has in its place: text that goes nowhere.
NO_OPENING = ("{name} looked around.", "There it was again.", "{name} ate some bread.")
NO_MIDDLE = ("{name} walked along the path.", "{name} looked at a leaf.", "{name} hummed a song.")
NO_ENDING = (
    "{name} looked at the sky.", "There was a tree and a stone.", "{name} walked and walked.",
    "A leaf fell down.",
)  # fmt: skip
