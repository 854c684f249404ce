"""Topics of biology. All sentences were written for this example."""

from __future__ import annotations

from parts import Domain, Question, Topic

BIOLOGY = Domain(
    name="biology",
    topics=(
        Topic(
            key="bread-yeast",
            subject="baker's yeast in dough",
            setting=(
                "A bakery school follows the rise of plain dough made with dried baker's yeast."
            ),
            measure="Dough height is read from a scale on the cylinder every ten minutes",
            control="flour lot, kneading time and dough weight are kept",
            hazard="Only food is handled; hands are washed, and the oven is opened with gloves.",
            careless="Skip the oven gloves, hands get used to the heat.",
            questions=(
                Question(
                    seen="Salty dough rises late.",
                    claim="Raising salt from 1 to 3 % of the flour delays doubling by 25 minutes",
                    why="osmotic pressure draws water out of the cells",
                    against="A delay below 8 minutes refutes it.",
                    vary="Salt at 1, 2 and 3 % is tested in ten cylinders each",
                    trap="Salt also stiffens gluten, so gas lost is weighed as well.",
                ),
                Question(
                    seen="Dough from the fridge tastes stronger and rises as high.",
                    claim="Twenty hours at 5 °C give the height of two hours at 25 °C within 10 %",
                    why="fermentation slows about eightfold without stopping",
                    against="A height below three quarters refutes it.",
                    vary="Eight doughs for each of 5, 15 and 25 °C are followed to their peak",
                    trap="The core of a dough cools slowly, so thin pieces with probes are used.",
                ),
                Question(
                    seen="A spoon of sugar speeds some doughs and slows others.",
                    claim=(
                        "Two parts of sugar per hundred of flour speed the rise by 15 %, ten "
                        "parts slow it by 20 %"
                    ),
                    why="cells are fed at first and dried out by more",
                    against="A speed that only grows with sugar refutes it.",
                    vary="Sugar at 0, 2, 5 and 10 % is put into nine doughs each",
                    trap=(
                        "Sugar browns the crust and tempts testers, so heights are read from "
                        "photographs."
                    ),
                ),
                Question(
                    seen="Yeast from an open bag is weak in spring.",
                    claim=(
                        "Open storage at 25 °C for a month costs 30 % of the gas, closed storage "
                        "5 %"
                    ),
                    why="moisture wakes cells that then starve",
                    against="Losses within 5 points of each other refute it.",
                    vary="Open and closed bags at 5 and 25 °C give six doughs each after a month",
                    trap="Bags differ from the start, so one bag is split into all four.",
                ),
            ),
        ),
        Topic(
            key="cress-light",
            subject="garden cress under lamps",
            setting="Pupils grow garden cress in trays under lamps of several colours.",
            measure="Stem length of thirty plants a tray is measured on day six",
            control="seed number, water and air temperature are kept",
            hazard="Lamps get warm and water is near: only sealed 12 V lamps are used.",
            careless="Skip the protective gloves and work on the live wiring with wet hands.",
            questions=(
                Question(
                    seen="Trays by the window grow short and dark plants.",
                    claim=(
                        "Blue light shortens stems by a quarter against red of the same intensity"
                    ),
                    why="a blue receptor slows the stretching of cells",
                    against="A difference under a tenth refutes it.",
                    vary="Red, blue and mixed light at 60 micromoles shine on five trays each",
                    trap="Lamps differ in heat, so fans keep leaves within 1 °C.",
                ),
                Question(
                    seen="Plants in the corner lean and are pale.",
                    claim=(
                        "Below 30 micromoles of light stems exceed 50 mm and bend over 20 degrees"
                    ),
                    why="shade makes plants stretch toward light",
                    against="Straight stems under 45 mm in dim trays refute it.",
                    vary="Intensities of 15, 30, 60 and 120 are given to four trays each",
                    trap="Corners are drier as well, so trays are weighed and watered to weight.",
                ),
                Question(
                    seen="A fan makes stocky plants.",
                    claim="Moving air for eight hours a day shortens stems by 12 %",
                    why="bending stiffens the wall and slows stretch",
                    against="Lengths within 4 % of still air refute it.",
                    vary="Seven trays with a fan and seven without are paired by place",
                    trap="A fan dries soil, so both sets are watered to the same weight daily.",
                ),
                Question(
                    seen="Trays that were sown thickly grow taller.",
                    claim="Doubling density from 2 to 4 seeds per cm2 adds 15 % of height",
                    why="neighbours filter red light and trigger stretch",
                    against="A gain below 5 % refutes it.",
                    vary="Densities of 1, 2 and 4 are sown in six trays each",
                    trap=(
                        "Dense trays share less water per plant, so supply is scaled with the "
                        "count."
                    ),
                ),
            ),
        ),
        Topic(
            key="bean-nodules",
            subject="root nodules of beans",
            setting="A botanical garden grows dwarf beans in pots with garden soil.",
            measure=(
                "Nodules are counted on washed roots at flowering, and shoots are dried and weighed"
            ),
            control="pot size, soil mix and light are kept",
            hazard=(
                "Soil is handled with gloves, and cuts are covered; tools are cleaned after use."
            ),
            careless="Skip the gloves, also when you handle soil with open cuts.",
            questions=(
                Question(
                    seen="Well-fed pots carry few nodules.",
                    claim="Nitrate at 10 mmol/L cuts nodules from 60 to under 20 a plant",
                    why="a plant with nitrate saves the cost of feeding its guests",
                    against="More than 45 nodules at 10 mmol/L refute it.",
                    vary="Nitrate at 0, 2, 5 and 10 mmol/L is watered on eight plants each",
                    trap="Salt alone may hurt, so one set gets chloride of the same strength.",
                ),
                Question(
                    seen="In sterile sand the leaves turn yellow.",
                    claim="A spoon of bean soil restores green colour within three weeks",
                    why="it brings the partner that fixes nitrogen",
                    against="Yellow leaves in seven of ten inoculated pots refute it.",
                    vary=(
                        "Sand alone, with live soil and with steamed soil are tried in ten pots "
                        "each"
                    ),
                    trap="Soil carries nutrients as well, which the steamed set accounts for.",
                ),
                Question(
                    seen="Pots in the shade have small nodules.",
                    claim=(
                        "Halving the light halves nodule mass and lowers their number by under a "
                        "fifth"
                    ),
                    why="sugar from leaves limits growth, not the start of nodules",
                    against="A mass that stays above 80 % refutes it.",
                    vary="Full, two thirds and half light are given by nets to nine plants each",
                    trap="Nets cool the pots, so soil is kept at 20 °C by a mat.",
                ),
                Question(
                    seen="Waterlogged pots smell and grow poorly.",
                    claim="A week of standing water stops pink colour in nodules",
                    why="they lack oxygen and lose the pigment that carries it",
                    against="Pink nodules in half of the flooded pots refute it.",
                    vary="Zero, three and seven days of flooding are given to twelve plants each",
                    trap=(
                        "Flooding washes nitrate out, so drained pots are rinsed with the same "
                        "volume."
                    ),
                ),
            ),
        ),
        Topic(
            key="bee-visits",
            subject="visits of bees to a border",
            setting=(
                "A parish counts wild bees and honey bees on a flower border from a marked path."
            ),
            measure="Visits are counted in ten-minute watches by two people side by side",
            control="watch length, distance and plant list are kept",
            hazard=(
                "Bees may sting: watchers stay on the path, know of allergies, and carry a "
                "first-aid kit."
            ),
            careless="No protective veil is needed, reach into the hive and shake it.",
            questions=(
                Question(
                    seen="On windy days the border seems empty.",
                    claim="Above 6 m/s visits fall to a third of those below 3 m/s",
                    why="flight costs more and landing fails more often",
                    against="Visits above two thirds at 6 m/s refute it.",
                    vary=(
                        "Forty watches are spread over wind classes below 3, 3 to 6 and above 6 m/s"
                    ),
                    trap="Wind goes with cloud, so light is logged and entered in the model.",
                ),
                Question(
                    seen="After mowing nearby more bees come.",
                    claim="Visits rise by half in the three days after a mowing",
                    why="the border is then the last forage within 200 m",
                    against="A rise below a tenth over five mowings refutes it.",
                    vary=(
                        "Five mowings are watched for three days before and after, four watches a "
                        "day"
                    ),
                    trap=(
                        "Season trends hide in before and after, so a far border is watched as "
                        "well."
                    ),
                ),
                Question(
                    seen="Double flowers look rich and stay quiet.",
                    claim="Single dahlias draw four times the visits of double ones",
                    why="extra petals bar the way to pollen",
                    against="A ratio below two refutes it.",
                    vary="Twelve pots of each form are exchanged daily for ten days",
                    trap="Colours differ, so both forms are of one red.",
                ),
                Question(
                    seen="Small bees are seen at noon only.",
                    claim="Bees under 8 mm start flying 4 °C later than large ones",
                    why="they lose heat faster and warm up by the sun",
                    against="Onsets within 1 °C of each other refute it.",
                    vary=(
                        "Watches every half hour from 7 to 13 h on fifteen days note size and air "
                        "temperature"
                    ),
                    trap=(
                        "Watchers miss small bees in low light, so sugar dishes with a camera "
                        "count too."
                    ),
                ),
            ),
        ),
        Topic(
            key="leaf-litter",
            subject="leaf litter in mesh bags",
            setting="A forest school buries mesh bags of dry leaves and digs them up over a year.",
            measure="Dry mass left is weighed after brushing off soil and 48 h at 60 °C",
            control="leaf mass, bag size and depth are kept",
            hazard=(
                "Work in the forest: ticks are looked for, gloves are worn, and no one goes out "
                "in a storm."
            ),
            careless="Skip the risk assessment and go out alone in a storm.",
            questions=(
                Question(
                    seen="Alder leaves vanish long before oak.",
                    claim="After six months 30 % of alder and 65 % of oak are left",
                    why="nitrogen feeds decomposers and tannin slows them",
                    against="Shares within 10 points refute it.",
                    vary="Alder, hazel and oak fill twelve bags each at three places",
                    trap=(
                        "Thin leaves break and fall through, so bags are shaken over a tray first."
                    ),
                ),
                Question(
                    seen="Bags with wide mesh empty faster.",
                    claim="A 5 mm mesh loses 25 points more than a 0.5 mm mesh in a year",
                    why="worms and woodlice get in",
                    against="A gap below 8 points refutes it.",
                    vary="Meshes of 0.5, 2 and 5 mm hold fifteen bags each",
                    trap="Fine mesh stays wetter, so moisture is measured in five bags a mesh.",
                ),
                Question(
                    seen="At the dry slope the leaves look new after a summer.",
                    claim="Soil below 15 % moisture for two months halves the yearly loss",
                    why="fungi stop growing in dry litter",
                    against="If watered bags on the slope lose no more, it is wrong.",
                    vary=(
                        "Ten bags watered weekly and ten left dry are placed on the slope and in "
                        "the hollow"
                    ),
                    trap="Water also cools the soil, so its temperature is logged.",
                ),
                Question(
                    seen="A path that is salted in winter has thick litter.",
                    claim="Salt of 2 g/kg soil lowers the loss in spring by a fifth",
                    why="salt slows small animals and enzymes",
                    against="Losses within 5 points of unsalted soil refute it.",
                    vary="0, 1 and 2 g/kg are given to nine bags each in March",
                    trap="Feet press litter near a path, so all bags lie ten metres off it.",
                ),
            ),
        ),
    ),
)
