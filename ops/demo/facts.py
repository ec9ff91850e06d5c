"""The words and facts that the demo questions are about."""

WORDS = tuple(
    """
    able acorn actor admit adult after again agent alarm album alley almost amber anchor angle
    animal ankle apple april apron arena arrow artist aside atlas attic autumn avenue baker ball
    bamboo banana bank barrel basket beach beacon beans bear beauty begin bench berry bicycle bird
    bishop black blanket blossom board boat bone book bottle bottom bowl branch brave bread breeze
    brick bridge bright broom brother brown brush bucket bundle burger butter button cabin cable
    cactus camel camera camp candle canoe canyon captain carbon carpet carrot castle cattle cedar
    cellar cement center chain chair chalk cheese cherry chess chicken child chimney choir circle
    city clay clever cliff clock cloud clover coach coast coffee comet common copper coral corner
    cotton cousin cover crayon cream cricket crown crystal cupboard curtain cushion daisy dance
    danger daughter desert design diamond dinner doctor dolphin donkey dragon drawer dream drum
    eagle early earth easel echo editor effort eleven elbow engine enough evening example fabric
    falcon family farmer feather fence fern fiddle field finger fire flame flower forest fork fossil
    fountain fox freedom friend frog frost fruit garden garlic gate gentle giant ginger giraffe
    glass glove goat golden goose grain grape grass green guitar hammer harbor harvest hat hazel
    helmet heron hill hinge hobby honey horse hotel house hunter iceberg idea island ivory jacket
    jewel jolly journey juice jungle kettle kitchen kitten knight ladder lake lamp language lantern
    laurel lawyer leaf leather lemon lesson letter level library light lily lion liquid little
    lizard lobster lumber magnet mango maple marble market meadow melody memory metal middle minute
    mirror monkey morning moss mother motor mountain mouse museum music mustard napkin nature needle
    nephew nest night noodle north novel number oak oasis ocean office olive onion opera orange
    orchard order otter oven owl oyster paddle painter palace panda paper parcel parrot pasta peach
    pebble pencil penguin pepper piano picnic pillow pilot pine planet plate pocket poem pond potato
    pretty prince puzzle quarter queen question quiet rabbit radio rain raven reason recipe ribbon
    rice river road robin rocket roof rose ruler saddle sailor salad salmon sand scarf school season
    shadow sheep shell shelter silver singer sister sky sleep smile snow soap soldier song spider
    spoon spring squirrel stable star station stone storm story stove street sugar summer sunset
    swan table tailor teacher temple theater thunder ticket tiger timber tomato tower train travel
    tree trumpet tulip tunnel turtle uncle under useful valley velvet village violin visitor voice
    wagon walnut water weather whale wheat whisper willow window winter wizard wolf wonder wood wool
    yard yellow young zebra zipper
    """.split()
)

CAPITALS = {
    "Argentina": "Buenos Aires",
    "Australia": "Canberra",
    "Austria": "Vienna",
    "Belgium": "Brussels",
    "Brazil": "Brasilia",
    "Bulgaria": "Sofia",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "China": "Beijing",
    "Colombia": "Bogota",
    "Croatia": "Zagreb",
    "Cuba": "Havana",
    "Denmark": "Copenhagen",
    "Egypt": "Cairo",
    "Estonia": "Tallinn",
    "Ethiopia": "Addis Ababa",
    "Finland": "Helsinki",
    "France": "Paris",
    "Germany": "Berlin",
    "Greece": "Athens",
    "Hungary": "Budapest",
    "Iceland": "Reykjavik",
    "India": "New Delhi",
    "Indonesia": "Jakarta",
    "Iran": "Tehran",
    "Ireland": "Dublin",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Kenya": "Nairobi",
    "Latvia": "Riga",
    "Mexico": "Mexico City",
    "Morocco": "Rabat",
    "Nepal": "Kathmandu",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Romania": "Bucharest",
    "Russia": "Moscow",
    "Senegal": "Dakar",
    "Serbia": "Belgrade",
    "Spain": "Madrid",
    "Sweden": "Stockholm",
    "Thailand": "Bangkok",
    "Tunisia": "Tunis",
    "Turkey": "Ankara",
    "Ukraine": "Kyiv",
    "Uruguay": "Montevideo",
    "Vietnam": "Hanoi",
}

_OPPOSITES = (
    "hot cold, big small, tall short, fast slow, old new, happy sad, rich poor, full empty, "
    "open closed, hard soft, wet dry, light dark, loud quiet, strong weak, early late, near far, "
    "thick thin, wide narrow, clean dirty, deep shallow, brave cowardly, cheap expensive, "
    "safe dangerous, true false, up down, left right, day night, love hate, begin end, win lose"
)
OPPOSITES = {
    word: other
    for pair in _OPPOSITES.split(", ")
    for word, other in (pair.split(), reversed(pair.split()))
}

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

MONTH_LENGTHS = {
    "January": 31,
    "March": 31,
    "April": 30,
    "May": 31,
    "June": 30,
    "July": 31,
    "August": 31,
    "September": 30,
    "October": 31,
    "November": 30,
    "December": 31,
}
MONTHS = ("January", "February", *list(MONTH_LENGTHS)[1:])
