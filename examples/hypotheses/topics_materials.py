"""Topics of materials. All sentences were written for this example."""

from __future__ import annotations

from parts import Domain, Question, Topic

MATERIALS = Domain(
    name="materials",
    topics=(
        Topic(
            key="anodised-coupons",
            subject="anodised aluminium coupons",
            setting=(
                "A student workshop anodises aluminium coupons in a dilute bath and seals them in "
                "warm water."
            ),
            measure="Coating thickness is read by eddy-current gauge at nine points a coupon",
            control="alloy, current density and rinse time stay as they are",
            hazard=(
                "The bath is corrosive: goggles, gloves and a tray under the tank are required, "
                "and the supply is switched off before a coupon is touched."
            ),
            careless="Skip the goggles and gloves, they only slow down the loading of coupons.",
            questions=(
                Question(
                    seen="Coupons of the afternoon are visibly thinner than those of the morning.",
                    claim="Warming the bath from 16 to 24 °C thins the coating by at least 15 %",
                    why="the oxide dissolves faster in a warmer bath than the current rebuilds it",
                    against="A change below 5 % between 16 and 24 °C would refute it.",
                    vary=(
                        "Three bath temperatures (16, 20, 24 °C) with eight coupons each are run "
                        "in random order"
                    ),
                    trap=(
                        "Dissolved aluminium also builds up over a day, so fresh bath is used for "
                        "every run and its age is noted."
                    ),
                ),
                Question(
                    seen="Dye takes unevenly near the upper edge, where the clamp sits.",
                    claim=(
                        "Turning the clamp to a second position halves the pale band from about 6 "
                        "mm to 3 mm"
                    ),
                    why=(
                        "contact resistance there lowers the local current and leaves fewer pores "
                        "for dye"
                    ),
                    against="If the band keeps its width within 1 mm, contact is not the cause.",
                    vary="Ten coupons with one contact and ten with two are drawn by lot",
                    trap=(
                        "A second clamp also shades the dye bath, so five dummies wear it during "
                        "dyeing only."
                    ),
                ),
                Question(
                    seen="Sealed coupons lose gloss after a week on a window sill.",
                    claim=(
                        "Sealing for 30 rather than 10 minutes cuts the loss of gloss over 200 h "
                        "of lamp light by half"
                    ),
                    why="closed pores keep moisture and light away from the dye",
                    against="Equal losses, within 2 gloss units, would speak against it.",
                    vary=(
                        "Sealing times of 10, 20 and 30 minutes get six coupons each under one lamp"
                    ),
                    trap="The lamp is brighter in its middle, so places are exchanged every 24 h.",
                ),
                Question(
                    seen=(
                        "Two suppliers' sheets of the same alloy give coatings of unlike hardness."
                    ),
                    claim=(
                        "Rolling texture, not composition, explains at least two thirds of the "
                        "difference in hardness"
                    ),
                    why="grains that lie flat grow a denser oxide than tilted ones",
                    against=(
                        "If annealing both sheets leaves the difference as it was, texture is "
                        "ruled out."
                    ),
                    vary=(
                        "Both sheets are tested as delivered and after one common anneal, twelve "
                        "indents each"
                    ),
                    trap=(
                        "An anneal also softens the metal below, so indents stay shallower than a "
                        "tenth of the coating."
                    ),
                ),
            ),
        ),
        Topic(
            key="sintered-bronze",
            subject="sintered bronze bushings",
            setting="A small shop presses and sinters bronze powder into oil-filled bushings.",
            measure="Open porosity is found by weighing dry, oiled and immersed parts to 1 mg",
            control="powder lot, pressing force and furnace atmosphere are kept",
            hazard=(
                "Hot parts and fine powder: heat-proof gloves, a dust mask and local extraction "
                "are used, and the furnace cools below 60 °C before it is opened."
            ),
            careless="Bypass the furnace door interlock so that parts come out quicker.",
            questions=(
                Question(
                    seen="Bushings from the back of the furnace hold less oil.",
                    claim=(
                        "A spot that is 20 °C hotter lowers open porosity by 3 percentage points "
                        "or more"
                    ),
                    why="necks between grains grow faster and close channels",
                    against=(
                        "Porosity that does not follow the thermocouple, with a rank correlation "
                        "under 0.3, would refute it."
                    ),
                    vary=(
                        "Thermocouples log twelve places over four firings, with one bushing at "
                        "each"
                    ),
                    trap=(
                        "The back also sees less fresh gas, so two firings are made with the flow "
                        "reversed."
                    ),
                ),
                Question(
                    seen="A new powder flows better and gives weaker parts.",
                    claim="Round grains lower crush strength by at least 20 % at equal density",
                    why="they interlock less and share smaller contact areas before sintering",
                    against="Equal strength within 5 % at matched density refutes it.",
                    vary=(
                        "Round and irregular powder are pressed to the same green density, "
                        "fifteen parts of each"
                    ),
                    trap="Round powder may carry less oxide, so oxygen is analysed on both lots.",
                ),
                Question(
                    seen="Bushings squeal in the first hour and then fall silent.",
                    claim=(
                        "Running-in polishes the bore from about 1.2 to 0.6 micrometre, and the "
                        "squeal ends below 0.8"
                    ),
                    why="rough peaks stick and slip until they are worn flat",
                    against="Squeal that stops at unchanged roughness would refute it.",
                    vary=(
                        "Eight bushings are stopped at 0, 15, 30 and 60 minutes and their bores "
                        "traced"
                    ),
                    trap=(
                        "Stopping cools the oil, so two bushings run through without a break as a "
                        "check."
                    ),
                ),
                Question(
                    seen="Parts pressed on Mondays crack more often when ejected.",
                    claim="A cold die below 15 °C doubles the share of cracked parts",
                    why="lubricant stiffens and the ejection force rises",
                    against=(
                        "If a heated die at 25 °C on Monday morning cracks as many parts, it is "
                        "wrong."
                    ),
                    vary=(
                        "The die is held at 12, 18 and 25 °C for sixty parts each, over three weeks"
                    ),
                    trap=(
                        "The operator differs between days, so each one presses at all "
                        "temperatures."
                    ),
                ),
            ),
        ),
        Topic(
            key="epoxy-lap-joints",
            subject="epoxy lap joints",
            setting="A bicycle maker glues carbon tubes to aluminium lugs with a two-part epoxy.",
            measure="Lap joints are pulled at 1 mm/min and the peak shear stress is noted",
            control="overlap, clamp pressure and mixing ratio are held",
            hazard=(
                "Uncured epoxy can sensitise skin: nitrile gloves and ventilation are used, and "
                "the pull test runs behind a screen."
            ),
            careless="No gloves are needed for the uncured resin, just wipe it off later.",
            questions=(
                Question(
                    seen="Joints made in winter fail at the metal side.",
                    claim="Humidity under 30 % during surface treatment lowers strength by a tenth",
                    why="the silane primer needs a film of water to bond to the oxide",
                    against=(
                        "Strength that stays within 3 % between 25 and 55 % humidity refutes it."
                    ),
                    vary=(
                        "Lugs are primed in a box at 25, 40 and 55 % relative humidity, ten "
                        "joints each"
                    ),
                    trap=(
                        "Cold winter air also cools the parts, so all are kept at 21 °C for a day "
                        "first."
                    ),
                ),
                Question(
                    seen="Thicker bond lines look safer but a few of them broke early.",
                    claim="Peak stress falls by 25 % when the bond line grows from 0.2 to 0.8 mm",
                    why="bending of the joint adds peel at the ends as the offset grows",
                    against="A flat line of strength against thickness would refute it.",
                    vary="Glass beads set lines of 0.2, 0.4 and 0.8 mm in nine joints each",
                    trap=(
                        "Beads may start cracks of their own, so one set is spaced by wire instead."
                    ),
                ),
                Question(
                    seen="A warm cure is quicker, yet its joints creak under load.",
                    claim=(
                        "Curing at 60 °C leaves residual strain of over 0.1 % that a cure at 25 "
                        "°C does not"
                    ),
                    why="aluminium shrinks more than carbon on the way back to room temperature",
                    against="Strain gauges that read the same for both cures would refute it.",
                    vary="Gauged lugs are cured at 25, 40 and 60 °C, six of each",
                    trap="Gauges drift when warmed, so an unbonded lug with a gauge goes along.",
                ),
                Question(
                    seen="Joints that were degreased twice are no stronger than those done once.",
                    claim=(
                        "A second wipe changes strength by less than 2 % while the cloth is fresh"
                    ),
                    why="after one wipe the oil left is too thin a film to weaken the bond",
                    against="A gain above 5 % with a fresh cloth would refute it.",
                    vary=(
                        "No wipe, one and two wipes with fresh cloths are given to twelve joints "
                        "each"
                    ),
                    trap="A dirty cloth brings oil back, so used cloths form a fourth set.",
                ),
            ),
        ),
        Topic(
            key="glass-fibre-felt",
            subject="glass-fibre felt panels",
            setting="A company cuts acoustic panels from bonded glass-fibre felt.",
            measure="Absorption from 125 Hz to 4 kHz is measured in an impedance tube",
            control="panel thickness, air gap and sample diameter are kept",
            hazard=(
                "Fibres irritate skin and lungs: cutting is done with extraction, sleeves and a "
                "fitted mask."
            ),
            careless="Cut the felt without a mask, the dust settles by itself.",
            questions=(
                Question(
                    seen="Panels of one delivery absorb less at low pitch.",
                    claim=(
                        "A rise of density from 40 to 60 kg/m3 shifts the half-absorption "
                        "frequency up by 80 Hz"
                    ),
                    why="flow resistance passes its best value and sound is reflected",
                    against="A shift under 20 Hz would refute it.",
                    vary="Discs of 40, 50 and 60 kg/m3, ten each, are cut from three rolls",
                    trap=(
                        "Binder content may vary with density, so a piece of every roll is burnt "
                        "off and weighed."
                    ),
                ),
                Question(
                    seen="Painted panels sound duller in a test room.",
                    claim="Two coats of wall paint cut absorption at 2 kHz from 0.9 to below 0.6",
                    why="the film closes the pores in which air would move",
                    against="Absorption over 0.8 after two coats refutes it.",
                    vary=(
                        "Bare, once and twice painted discs, eight each, are measured after three "
                        "days of drying"
                    ),
                    trap=(
                        "Paint adds mass, so discs with the same weight of open mesh are compared."
                    ),
                ),
                Question(
                    seen="Old panels in a swimming hall sag and look darker.",
                    claim="A month at 90 % humidity lowers the stiffness of the felt by a third",
                    why="water softens the starch part of the binder",
                    against="Stiffness within 10 % of the dry value refutes it.",
                    vary="Strips are kept at 40, 65 and 90 % humidity for a month, nine of each",
                    trap="Strips sag under their own weight, so they hang upright until tested.",
                ),
                Question(
                    seen=(
                        "Cutting with a new blade leaves cleaner rims and, some say, better sound."
                    ),
                    claim="Blade wear changes absorption by less than 0.02 at any pitch",
                    why="the damaged rim is under 1 mm of a 100 mm disc",
                    against="A difference above 0.05 in two neighbouring bands would refute it.",
                    vary="Twelve discs are cut by a new blade and twelve by one after 500 cuts",
                    trap=(
                        "A loose disc leaks at the tube wall, so each is sealed with petroleum "
                        "jelly and measured twice."
                    ),
                ),
            ),
        ),
        Topic(
            key="memory-wire",
            subject="shape-memory wire",
            setting=(
                "A class drives a small gripper with nickel-titanium wire that shortens when a "
                "current warms it."
            ),
            measure="Stroke is read with a dial gauge to 10 micrometres over a fixed weight",
            control="wire length, dead weight and room temperature are kept",
            hazard=(
                "The wire gets hot and may snap: safety glasses are worn, and the bench supply is "
                "limited to 6 V."
            ),
            careless="Skip the safety glasses, the wire hardly ever snaps.",
            questions=(
                Question(
                    seen="After a few hundred grips the stroke is shorter.",
                    claim=(
                        "Stroke falls by 8 % within 500 cycles at 200 MPa and by less than 2 % at "
                        "100 MPa"
                    ),
                    why="slip in the crystal leaves a part that no longer turns back",
                    against="Equal losses at both loads would refute it.",
                    vary="Loads of 100, 150 and 200 MPa are cycled 500 times on four wires each",
                    trap=(
                        "A stretched clamp looks like lost stroke, so marks on the wire itself "
                        "are filmed."
                    ),
                ),
                Question(
                    seen="The gripper closes faster near the window fan.",
                    claim=(
                        "Moving air at 2 m/s shortens the opening time by 40 % and lengthens "
                        "closing by 10 %"
                    ),
                    why="cooling is what limits opening, while closing is driven by the current",
                    against="Opening times that stay within 10 % refute it.",
                    vary="Air speeds of 0, 1 and 2 m/s are set by a fan, with twenty cycles each",
                    trap=(
                        "The fan also shakes the weight, so a screen that lets air pass holds it "
                        "still."
                    ),
                ),
                Question(
                    seen="A second batch of wire starts to move at a lower current.",
                    claim="Its transition begins at least 10 °C lower",
                    why="a little more nickel lowers the temperature of the change",
                    against="Onsets within 3 °C by a slow oil bath would refute it.",
                    vary=(
                        "Five pieces of each batch are warmed at 1 °C a minute while their length "
                        "is logged"
                    ),
                    trap=(
                        "Batches may differ in diameter, so it is measured and the current scaled."
                    ),
                ),
                Question(
                    seen="Students report that the first grip of a day is always weak.",
                    claim=(
                        "The first stroke is 5 % shorter after 12 h of rest, and the third is "
                        "normal"
                    ),
                    why="residual strain relaxes at rest and is set anew by two cycles",
                    against="A normal first stroke after 12 h in eight of ten trials refutes it.",
                    vary="Rests of 1, 4 and 12 h precede ten starts each, in random order",
                    trap="Mornings are colder, so the frame is thermostatted to 22 °C.",
                ),
            ),
        ),
    ),
)
