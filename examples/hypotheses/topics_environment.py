"""Topics of the environment. All sentences were written for this example."""

from __future__ import annotations

from parts import Domain, Question, Topic

ENVIRONMENT = Domain(
    name="environment",
    topics=(
        Topic(
            key="village-pond",
            subject="a village pond",
            setting="Volunteers sample a shallow village pond from its jetty every week.",
            measure="Oxygen, temperature and clarity are taken at 20 cm depth at nine o'clock",
            control="place, depth and probe are kept",
            hazard="Nobody samples alone; life vests are worn on the jetty, and hands are washed.",
            careless="Skip the risk assessment, go alone and leave the life vest at home.",
            questions=(
                Question(
                    seen="Fish gasp at dawn in July.",
                    claim="Oxygen falls below 3 mg/L before sunrise after warm, still nights",
                    why="algae breathe in the dark and no wind brings air in",
                    against="Dawn values above 5 mg/L on six such nights refute it.",
                    vary="A logger stores oxygen every ten minutes for five weeks",
                    trap="The probe fouls, so it is wiped and checked in air twice a week.",
                ),
                Question(
                    seen="The water clears in May for two weeks.",
                    claim="Water fleas above 40 a litre double the clarity",
                    why="they graze small algae faster than these grow",
                    against="Clear water with fewer than 10 fleas a litre refutes it.",
                    vary="Fleas and clarity are counted twice a week at three places until July",
                    trap="Cold nights also slow algae, so temperature enters the regression.",
                ),
                Question(
                    seen="After storms the pond turns brown and then green.",
                    claim=(
                        "A storm of 20 mm brings phosphate above 0.1 mg/L, and algae peak eight "
                        "days later"
                    ),
                    why="runoff from gardens feeds them",
                    against="No peak after four of five storms refutes it.",
                    vary=(
                        "Phosphate and chlorophyll are taken daily for two weeks after five storms"
                    ),
                    trap="Stirred mud releases phosphate as well, so the inlet is sampled too.",
                ),
                Question(
                    seen="Duckweed covers the lee side.",
                    claim="Under duckweed midday light at 20 cm is a tenth and oxygen 4 mg/L lower",
                    why="the mat shades what would make oxygen",
                    against="Oxygen within 1 mg/L of open water refutes it.",
                    vary="Ten pairs of covered and open spots are probed on six days",
                    trap=(
                        "The lee side is calmer as well, so mats are held in frames on both sides."
                    ),
                ),
            ),
        ),
        Topic(
            key="roof-gardens",
            subject="planted roofs",
            setting="A housing estate compares four planted roofs with two gravel roofs.",
            measure="Runoff is weighed in barrels each minute and soil moisture logged",
            control="slope, drain and barrel are kept",
            hazard="Work on roofs is done with rails and harness, and never on wet or windy days.",
            careless="Skip the harness and the risk assessment, the rails are enough trouble.",
            questions=(
                Question(
                    seen="The second of two rains runs off at once.",
                    claim=(
                        "With soil above 35 % moisture a roof holds less than 4 mm, below 20 % "
                        "over 14"
                    ),
                    why="pores that are full take no more",
                    against="A hold that does not follow moisture refutes it.",
                    vary="Sixty rains over a year are sorted by moisture at their start",
                    trap="Strong rains overflow anyway, so only those below 20 mm are used.",
                ),
                Question(
                    seen="Planted roofs keep rooms below cooler.",
                    claim="On days above 30 °C the ceiling is 2 K cooler than under gravel",
                    why="evaporation and mass take the noon heat",
                    against="A difference below 0.5 K refutes it.",
                    vary="Ceilings of six flats are logged for twelve hot days",
                    trap="People air rooms differently, so windows are logged with contacts.",
                ),
                Question(
                    seen="Mossy corners dry later.",
                    claim="Moss keeps 3 mm more water two days after rain",
                    why="it holds water between leaves and shades the soil",
                    against="A gain below 1 mm refutes it.",
                    vary=(
                        "Twenty trays with and without moss are weighed for a week after five rains"
                    ),
                    trap="Corners are shaded by walls, so trays stand in the middle of the roof.",
                ),
                Question(
                    seen="Runoff from young roofs is brown.",
                    claim="Dissolved carbon falls from 40 to below 15 mg/L within two years",
                    why="fresh compost washes out and then is used up",
                    against="Values above 30 after two years refute it.",
                    vary="Roofs of age 0, 1, 2 and 5 years are sampled at eight rains",
                    trap="Thin rain concentrates, so loads per area are computed as well.",
                ),
            ),
        ),
        Topic(
            key="street-dust",
            subject="dust on street trees",
            setting="A town wipes dust from leaves of street trees to map its sources.",
            measure=(
                "Dust is weighed on filters after rinsing twenty leaves, and its magnetism measured"
            ),
            control="leaf height, number and rinse are kept",
            hazard=(
                "Ladders are held by a second person, vests are worn, and filters are folded "
                "inside a hood."
            ),
            careless="Skip the safety vest and the risk assessment, and climb the ladder alone.",
            questions=(
                Question(
                    seen="Trees by the tram carry heavy dust.",
                    claim="Magnetism per gram is three times higher within 10 m of the rails",
                    why="wear of wheels and brakes is rich in iron",
                    against="A ratio below 1.5 refutes it.",
                    vary="Trees at 5, 10, 30 and 60 m from rails, eight each, are wiped twice",
                    trap="Cars run along the tram as well, so a street with tram only is added.",
                ),
                Question(
                    seen="Hairy leaves are greyer than smooth ones.",
                    claim="Limes with hairs hold 60 % more dust than smooth maples",
                    why="hairs catch grains and shield them from wind",
                    against="A gain below 20 % refutes it.",
                    vary="Pairs of lime and maple within 20 m are wiped at fifteen places",
                    trap="Lime leaves are sticky by honeydew, so they are checked for sugar.",
                ),
                Question(
                    seen="A rain cleans some leaves only.",
                    claim=(
                        "Ten millimetres wash off half of the dust above 10 micrometres and "
                        "little below"
                    ),
                    why="small grains stick in wax",
                    against="Equal losses of both sizes refute it.",
                    vary=(
                        "Leaves are wiped the day before and after eight rains, sizes by two "
                        "filters"
                    ),
                    trap="New dust falls as well, so covered branches serve as control.",
                ),
                Question(
                    seen="Dust doubles in the week of spring sweeping.",
                    claim="Dry sweeping causes a peak that wet sweeping halves",
                    why="brushes lift what water would bind",
                    against="Equal peaks in both refute it.",
                    vary="Six streets are swept dry and six wet, and trees wiped daily for a week",
                    trap="Dry weather raises dust by itself, so pairs are swept on the same day.",
                ),
            ),
        ),
        Topic(
            key="compost-heap",
            subject="garden compost",
            setting="An allotment turns kitchen and garden waste into compost in wooden bins.",
            measure="Core temperature is read at three depths daily, and heaps are weighed monthly",
            control="bin size, mix and cover are kept",
            hazard=(
                "Gloves are worn, heaps are turned upwind, and people with weak lungs stay away "
                "from dust."
            ),
            careless="Breathe the dust of a dry heap, and do not wear gloves.",
            questions=(
                Question(
                    seen="Heaps with much grass turn slimy and cold.",
                    claim=(
                        "A carbon to nitrogen ratio of 15 keeps the core below 40 °C, one of 28 "
                        "above 55"
                    ),
                    why="wet grass packs and lacks air",
                    against="Cores above 50 °C at a ratio of 15 refute it.",
                    vary="Ratios of 15, 22 and 28 are mixed in five bins each",
                    trap="Grass is wetter too, so all mixes are set to 55 % water.",
                ),
                Question(
                    seen="Turning every week seems to be wasted work.",
                    claim=(
                        "Turning weekly shortens the hot phase by a third and loses 10 % more mass"
                    ),
                    why="air reaches what lay packed",
                    against="Phases within a tenth of each other refute it.",
                    vary="No, monthly and weekly turning are given to six bins each",
                    trap="Turning mixes cold rims in, so temperature is read before it.",
                ),
                Question(
                    seen="Eggshells are found whole after a year.",
                    claim=(
                        "Shells ground below 1 mm vanish in a year, halves keep 80 % of their mass"
                    ),
                    why="acid acts on surface and lasts a few weeks",
                    against="Halves that lose over half refute it.",
                    vary="Whole halves, crumbs and powder lie in nylon bags, twelve each",
                    trap="Worms carry powder out, so fine mesh is used and checked.",
                ),
                Question(
                    seen="Heaps in black bins finish first.",
                    claim="Black bins raise the core by 3 K in spring and by under 1 K in summer",
                    why="sun matters while the heap's own heat is weak",
                    against="Equal gains in both seasons refute it.",
                    vary="Seven black and seven grey bins are logged from March to August",
                    trap="Black bins are also tighter, so the lids of all are opened by 2 cm.",
                ),
            ),
        ),
        Topic(
            key="snow-fences",
            subject="snow behind fences",
            setting="A mountain road service tests fences that catch drifting snow.",
            measure="Depth is probed on a grid of 1 m behind each fence after every storm",
            control="fence height, place and probe are kept",
            hazard=(
                "Avalanche bulletins are read, people go in pairs with beacons, and the road is "
                "closed meanwhile."
            ),
            careless="Skip the risk assessment, ignore the avalanche bulletin and go out alone.",
            questions=(
                Question(
                    seen="Dense fences make short and high drifts.",
                    claim="A fence half open catches 40 % more snow than one a quarter open",
                    why="slower flow without a strong eddy lets snow settle farther",
                    against="A gain below 10 % refutes it.",
                    vary="Openings of 25, 50 and 75 % are built at four places each",
                    trap="Places differ, so panels are exchanged after every second storm.",
                ),
                Question(
                    seen="A gap below the boards helps.",
                    claim=(
                        "A gap of 15 % of the height keeps fences from being buried in 9 of 10 "
                        "storms"
                    ),
                    why="a jet below scours the foot",
                    against="Burial in three of ten storms refutes it.",
                    vary="Gaps of 0, 10 and 15 % stand in rows of three",
                    trap="Grass fills the gap, so it is cut in autumn.",
                ),
                Question(
                    seen="Wet storms leave little behind the fence.",
                    claim="Above -1 °C the catch is a third of that below -5 °C at equal wind",
                    why="wet grains stick where they fall",
                    against="Catches above two thirds refute it.",
                    vary="Thirty storms are sorted by temperature and wind",
                    trap="Wet snow packs, so density is measured and mass compared.",
                ),
                Question(
                    seen="The second row of fences is nearly empty.",
                    claim=(
                        "At 20 heights of distance the second row catches as much as the first, "
                        "at 10 a third"
                    ),
                    why="wind needs this way to gather snow again",
                    against="A catch above two thirds at 10 heights refutes it.",
                    vary="Distances of 10, 15 and 20 heights are set for eight storms each",
                    trap="Slope changes with distance, so a flat field is used.",
                ),
            ),
        ),
    ),
)
