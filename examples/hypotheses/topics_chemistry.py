"""Topics of chemistry. All sentences were written for this example."""

from __future__ import annotations

from parts import Domain, Question, Topic

CHEMISTRY = Domain(
    name="chemistry",
    topics=(
        Topic(
            key="citrate-buffers",
            subject="citrate buffer solutions",
            setting="A teaching laboratory prepares citrate buffers for a pH course.",
            measure=(
                "pH is read with a glass electrode that two standards calibrate before each series"
            ),
            control="ionic strength, volume and water quality are kept",
            hazard=(
                "Solutions are mild irritants: glasses are worn, and spills are wiped up at once."
            ),
            careless="Pipette by mouth to save time, citrate is harmless.",
            questions=(
                Question(
                    seen="Readings creep upward during an afternoon in open beakers.",
                    claim="The creep of 0.04 in three hours vanishes when beakers are covered",
                    why="evaporation concentrates the salt and shifts the activity of the ions",
                    against="A creep of 0.03 or more in covered beakers would refute it.",
                    vary=(
                        "Six open and six covered beakers are read every 30 minutes for three hours"
                    ),
                    trap="The electrode drifts as well, so a standard is read between samples.",
                ),
                Question(
                    seen="Dilution by ten moves the pH although books call buffers robust.",
                    claim="Diluting 0.1 M buffer tenfold raises the pH by 0.15 ± 0.05",
                    why="activity coefficients of the threefold charged ion change most",
                    against="A shift under 0.05 would refute it.",
                    vary="Dilutions of 1, 2, 5 and 10 times, each five times, are made by weight",
                    trap="Water takes up carbon dioxide, so it is boiled and cooled under cover.",
                ),
                Question(
                    seen="Two electrodes disagree by 0.1 in the buffer, not in the standards.",
                    claim=(
                        "The clogged junction of the older one accounts for more than half of the "
                        "gap"
                    ),
                    why="its liquid potential depends on the ions it meets",
                    against="If a new junction leaves the gap above 0.08, it is wrong.",
                    vary=(
                        "Both electrodes read ten beakers before and after the junction is renewed"
                    ),
                    trap="The sequence of dips could carry salt over, so it is alternated.",
                ),
                Question(
                    seen="Mould appears in bottles that stand by the window.",
                    claim=(
                        "Bottles kept at 4 °C stay clear for eight weeks, those at 22 °C for "
                        "under four"
                    ),
                    why="spores feed on citrate and grow slowly in the cold",
                    against="Equal times until the first flock refute it.",
                    vary="Twelve bottles at each of 4, 12 and 22 °C are looked at twice a week",
                    trap=(
                        "Light differs as well as warmth, so half of every set is wrapped in foil."
                    ),
                ),
            ),
        ),
        Topic(
            key="dye-adsorption",
            subject="dye on activated carbon",
            setting="A water works tests how activated carbon takes a food dye out of tap water.",
            measure="Dye left in solution is read by absorbance at 630 nm against five standards",
            control="carbon mass, volume and stirring speed stay fixed",
            hazard=(
                "Carbon dust is a nuisance: it is weighed wet or in a hood, with a mask at hand."
            ),
            careless="Work without a mask in the dust of dry carbon.",
            questions=(
                Question(
                    seen="Finer carbon clears the water sooner, but the end is the same.",
                    claim=(
                        "Halving the grain size doubles the rate and changes the final uptake by "
                        "under 5 %"
                    ),
                    why="diffusion into the grain sets the pace, inner surface the amount",
                    against="A final uptake that grows by more than 15 % would refute it.",
                    vary=(
                        "Sieve cuts of 0.25, 0.5 and 1 mm are stirred for 24 h in five flasks each"
                    ),
                    trap="Fines cling to coarse grains, so all cuts are rinsed before weighing.",
                ),
                Question(
                    seen="Uptake drops after the carbon has been regenerated by steam.",
                    claim="Three cycles of steam lose 20 % of the uptake",
                    why="char from the dye closes narrow pores",
                    against="A loss below 5 % after three cycles refutes it.",
                    vary=(
                        "Fresh carbon and that of one, two and three cycles meet the same dye, "
                        "six flasks each"
                    ),
                    trap=(
                        "Grains are lost in handling, so the dry mass is restored before each test."
                    ),
                ),
                Question(
                    seen="Hard water seems to help.",
                    claim="Adding 2 mmol/L of calcium raises uptake at low dye by 10 to 20 %",
                    why="the ion screens charges that push dye and carbon apart",
                    against="No change beyond 3 % refutes it.",
                    vary="Calcium at 0, 1 and 2 mmol/L is set in seven flasks each",
                    trap=(
                        "Calcium could bleach the reading, so standards are made in the same water."
                    ),
                ),
                Question(
                    seen="In the cold store the colour stays longer.",
                    claim="The rate at 8 °C is half of that at 22 °C",
                    why="diffusion slows and water is more viscous",
                    against="A ratio above 0.8 would refute it.",
                    vary=(
                        "Flasks are shaken at 8, 15 and 22 °C and sampled seven times in four "
                        "hours, four flasks each"
                    ),
                    trap=(
                        "Cold samples fog the cuvette, so they are warmed for ten minutes before "
                        "reading."
                    ),
                ),
            ),
        ),
        Topic(
            key="soap-bars",
            subject="cold-process soap bars",
            setting=(
                "A cooperative makes soap bars from olive and coconut oil and cures them on racks."
            ),
            measure="Hardness is the depth of a cone after five seconds under 200 g",
            control="recipe, batch size and mould are unchanged",
            hazard=(
                "Raw soap is caustic: goggles and gloves are worn, and the batch is stirred in a "
                "ventilated room."
            ),
            careless=(
                "Take off the goggles and gloves while stirring the raw soap, they get in the way."
            ),
            questions=(
                Question(
                    seen="Bars from the rainy season dent easily.",
                    claim=(
                        "Bars cured at 80 % humidity stay 30 % softer after four weeks than at 50 %"
                    ),
                    why="they keep water that would otherwise leave the gel",
                    against="Softness that does not follow weight loss refutes it.",
                    vary=(
                        "Cupboards at 50, 65 and 80 % humidity hold fifteen bars each for four "
                        "weeks"
                    ),
                    trap="Bars at the edge dry first, so places are rotated weekly.",
                ),
                Question(
                    seen="A white powder forms on some tops.",
                    claim=(
                        "Covering the mould for a day cuts the powdered area from a third to "
                        "under 5 %"
                    ),
                    why="carbon dioxide reacts with alkali at a bare surface",
                    against="Covered and open moulds with equal areas would refute it.",
                    vary=(
                        "Ten covered and ten open moulds of one batch are photographed after a week"
                    ),
                    trap=(
                        "A cover keeps warmth in as well, so five open moulds stand on a warming "
                        "mat."
                    ),
                ),
                Question(
                    seen="Bars with more coconut oil lather well and crack.",
                    claim="Going from 20 to 40 % coconut oil triples the length of cracks",
                    why="short chains make a stiffer crystal that cannot follow shrinkage",
                    against="Crack lengths that stay within a quarter refute it.",
                    vary="Shares of 20, 30 and 40 % are poured in twelve bars each",
                    trap="Alkali need changes with the oil, so it is calculated for every recipe.",
                ),
                Question(
                    seen="Scented bars stiffen in minutes.",
                    claim="One part of clove scent in a hundred halves the time to a thick trace",
                    why="its phenol speeds the mixing of oil and water",
                    against="A time within 10 % of the plain batch refutes it.",
                    vary=(
                        "Plain batches and batches with 0.5 and 1 % scent are stirred eight times "
                        "each"
                    ),
                    trap="Stirring by hand varies, so a motor at 300 turns a minute is used.",
                ),
            ),
        ),
        Topic(
            key="vitamin-juice",
            subject="vitamin C in juice",
            setting="A school kitchen follows vitamin C in bottled orange juice.",
            measure="Vitamin C is titrated with iodine to a starch end point, three times a sample",
            control="juice lot, bottle and filling height are kept",
            hazard=(
                "Iodine stains and irritates: gloves and glasses are worn, and waste is collected."
            ),
            careless="Skip the gloves and glasses for the titration.",
            questions=(
                Question(
                    seen="Half-empty bottles taste flat after two days.",
                    claim=(
                        "A bottle with half its volume of air loses 25 % in 48 h, a full one "
                        "under 8 %"
                    ),
                    why="oxygen of the head space oxidises the vitamin",
                    against="Equal losses in both refute it.",
                    vary="Bottles filled to 50, 75 and 100 % stand at 6 °C, nine each",
                    trap="Opening lets air in, so each bottle is opened once and then discarded.",
                ),
                Question(
                    seen="Juice from the glass jug keeps less vitamin than that from the carton.",
                    claim="Light of 500 lux doubles the loss over three days",
                    why="it drives the oxidation through the natural yellow pigments",
                    against="Clear and wrapped jugs that lose the same refute it.",
                    vary="Eight clear and eight wrapped jugs share a shelf under one lamp",
                    trap="A lamp warms clear jugs, so a thermometer sits in two of each.",
                ),
                Question(
                    seen="Pulp seems to protect the vitamin.",
                    claim=(
                        "Juice with its pulp loses 10 % less in four days than the same juice "
                        "strained"
                    ),
                    why="cells left whole shut their vitamin off from oxygen",
                    against="A difference below 3 % refutes it.",
                    vary="One lot is split into strained and unstrained halves, ten bottles each",
                    trap=(
                        "Pulp hides the end point, so samples are centrifuged just before "
                        "titration."
                    ),
                ),
                Question(
                    seen="A metal spoon left in the jug coincides with a loss.",
                    claim="Traces of copper of 1 mg/L triple the rate, iron of the spoon does not",
                    why="copper ions carry electrons between vitamin and oxygen",
                    against="A rate within 20 % of plain juice refutes it.",
                    vary="Plain juice, 1 mg/L copper and a steel spoon are tried in six jars each",
                    trap=(
                        "Metal also reacts with iodine, so blanks with metal and no juice are "
                        "titrated."
                    ),
                ),
            ),
        ),
        Topic(
            key="copper-plating",
            subject="copper plated on brass",
            setting="A clock maker plates copper on brass plates from a pyrophosphate bath.",
            measure="Deposits are weighed to 0.1 mg and their roughness is traced",
            control="bath volume, electrode distance and charge are kept",
            hazard=(
                "The bath harms skin and drains: gloves and a splash screen are used, and rinse "
                "water is collected."
            ),
            careless="Skip the gloves and work with bare hands in the bath.",
            questions=(
                Question(
                    seen="Corners come out rough and dark.",
                    claim=(
                        "Lowering the current from 4 to 2 A/dm2 brings corner roughness under 1 "
                        "micrometre"
                    ),
                    why="at the corners the field crowds and ions run short",
                    against="Rough corners at 2 A/dm2 in more than two of ten plates refute it.",
                    vary="Currents of 2, 3 and 4 A/dm2 plate ten plates each for one charge",
                    trap=(
                        "Slow plating takes longer and lets dust settle, so the bath is filtered "
                        "all the time."
                    ),
                ),
                Question(
                    seen="Weighing shows less copper than the charge would give.",
                    claim="Current efficiency is 92 % at pH 8.5 and falls below 85 % at pH 9.5",
                    why="hydrogen takes a growing share of the current",
                    against="An efficiency that stays within 2 points refutes it.",
                    vary="pH is set to 8.5, 9.0 and 9.5 for six plates each",
                    trap=(
                        "Drops of bath left on a plate add weight, so plates are rinsed and dried "
                        "for an hour."
                    ),
                ),
                Question(
                    seen="Stirring by air gives a brighter coat on one side.",
                    claim=(
                        "Moving the cathode instead evens the brightness of both sides to within "
                        "5 %"
                    ),
                    why="bubbles thin the layer of spent bath on the side they touch",
                    against="A gap above 15 % with a moving cathode refutes it.",
                    vary="No stirring, air and cathode movement are used on eight plates each",
                    trap="Air also cools the bath, so a thermostat holds 50 °C.",
                ),
                Question(
                    seen="The coat blisters on plates that were polished with wax.",
                    claim=(
                        "One alkaline soak more brings blisters from six in ten plates to under one"
                    ),
                    why="wax in scratches keeps copper from touching the brass",
                    against="Three or more blistered plates of ten after the soak refute it.",
                    vary=(
                        "Plates with and without the extra soak, twenty each, are bent and looked "
                        "at"
                    ),
                    trap="Polish differs between workers, so each supplies plates to both sets.",
                ),
            ),
        ),
    ),
)
