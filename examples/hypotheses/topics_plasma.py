"""Topics of plasma physics. All sentences were written for this example."""

from __future__ import annotations

from parts import Domain, Question, Topic

PLASMA = Domain(
    name="plasma",
    topics=(
        Topic(
            key="argon-glow",
            subject="an argon glow tube",
            setting=(
                "A practical course runs an argon glow discharge in a pumped glass tube behind an "
                "acrylic cover."
            ),
            measure=(
                "Discharge voltage and current are logged, and the column is photographed beside "
                "a scale"
            ),
            control="gas flow, electrode gap and camera settings are kept",
            hazard=(
                "Supply and tube are enclosed and interlocked; the supply is off and discharged "
                "before the cover is opened, and glasses guard against broken glass."
            ),
            careless="Bypass the interlock of the cover to adjust the electrodes while it runs.",
            questions=(
                Question(
                    seen="Bright bands appear in the column at some pressures only.",
                    claim=(
                        "The spacing of the bands shrinks from about 12 to 6 mm as pressure "
                        "doubles from 50 to 100 Pa"
                    ),
                    why="electrons need a shorter way between collisions that excite",
                    against="A spacing that changes by less than 2 mm refutes it.",
                    vary=(
                        "Pressures of 50, 70 and 100 Pa are set in random order, ten photographs "
                        "each"
                    ),
                    trap="Current moves the bands as well, so it is held at 5 mA by regulation.",
                ),
                Question(
                    seen="The tube needs more voltage to start after a weekend.",
                    claim=(
                        "A rest of 60 h raises the starting voltage by 15 %, and one minute of "
                        "running undoes it"
                    ),
                    why="no charges are left on the walls to seed the first avalanche",
                    against="Starting voltages within 5 % after both rests refute it.",
                    vary="Rests of 1, 12 and 60 h come before eight starts each",
                    trap=(
                        "Air leaks in over a weekend, so the base pressure is noted and pumped to "
                        "the same value."
                    ),
                ),
                Question(
                    seen="The colour turns from violet to pink when the valve is old.",
                    claim=(
                        "A leak that brings 1 % of nitrogen explains the pink, as bands near 650 "
                        "nm show"
                    ),
                    why="molecular nitrogen radiates there and argon hardly does",
                    against="A spectrum without these bands while the colour is pink refutes it.",
                    vary=(
                        "Nitrogen is added at 0, 0.5, 1 and 2 % and five spectra are taken of each"
                    ),
                    trap=(
                        "Outgassing from walls looks like a leak, so the tube is warmed and "
                        "pumped overnight."
                    ),
                ),
                Question(
                    seen="Voltage falls slowly during the first ten minutes.",
                    claim="Warming of the gas by 60 K explains at least 70 % of the fall",
                    why=(
                        "hotter gas is thinner at equal pressure and lets electrons gain more "
                        "energy"
                    ),
                    against="If a cooled tube shows the same fall, it is wrong.",
                    vary=(
                        "Runs with still air and with a cooling fan outside the cover are "
                        "repeated nine times"
                    ),
                    trap=(
                        "The cathode cleans itself meanwhile, so the order of runs is drawn by lot."
                    ),
                ),
            ),
        ),
        Topic(
            key="air-plasma-jet",
            subject="a cold air plasma jet",
            setting=(
                "A workshop treats polypropylene cups with a commercial cold plasma jet before "
                "printing."
            ),
            measure="Water contact angle is measured at ten spots a cup within five minutes",
            control="gas flow, nozzle and cup lot are kept",
            hazard=(
                "The jet makes ozone: it runs under extraction with an ozone detector, and its "
                "housing stays closed."
            ),
            careless="Turn off the extraction and the ozone alarm, the smell is pleasant.",
            questions=(
                Question(
                    seen="Print sticks well in the middle of a cup and badly at its rim.",
                    claim="At 12 mm from the nozzle the angle is 20 degrees larger than at 6 mm",
                    why="reactive species recombine on the way",
                    against="A difference below 5 degrees refutes it.",
                    vary="Distances of 6, 9 and 12 mm treat fifteen cups each",
                    trap=(
                        "The rim is also thicker, so flat sheets of two gauges are treated "
                        "alongside."
                    ),
                ),
                Question(
                    seen="Cups treated on Friday print worse on Monday.",
                    claim=(
                        "The angle climbs back by 15 degrees within three days at 22 °C, by 5 at "
                        "5 °C"
                    ),
                    why="polar groups turn inward as chains move",
                    against="A climb of less than 5 degrees at 22 °C refutes it.",
                    vary=(
                        "Treated cups rest at 5, 22 and 35 °C and are measured after 1, 24 and 72 "
                        "h, eight each"
                    ),
                    trap="Dust settles on stored cups, so they lie face down on clean foil.",
                ),
                Question(
                    seen="Humid days give better adhesion.",
                    claim=(
                        "Feed air at 60 % humidity lowers the angle by 8 degrees more than dry air"
                    ),
                    why="hydroxyl made from water adds groups to the surface",
                    against="Equal angles within 2 degrees refute it.",
                    vary="Feed air at 5, 30 and 60 % humidity treats twelve cups each",
                    trap="Humidity shifts the jet's power, so it is metered and reset.",
                ),
                Question(
                    seen="A second pass seems wasted.",
                    claim=(
                        "The second pass lowers the angle by less than 3 degrees, the first by "
                        "over 30"
                    ),
                    why="the outermost layer is saturated by then",
                    against="A second gain above 8 degrees refutes it.",
                    vary="No, one, two and three passes are given to ten cups each",
                    trap="The cup warms with each pass, so a pause of two minutes comes between.",
                ),
            ),
        ),
        Topic(
            key="dusty-shelf",
            subject="dust grains above an electrode",
            setting=(
                "A student project levitates plastic microspheres in a low-pressure "
                "radio-frequency discharge."
            ),
            measure="Grain height and spacing are taken from camera frames at 60 frames a second",
            control="grain size, gas and electrode are the same",
            hazard=(
                "The chamber is shielded and interlocked; viewing is by camera, and the laser "
                "sheet is low power and enclosed."
            ),
            careless=(
                "Bypass the interlock of the laser enclosure and look along the beam to see the "
                "grains."
            ),
            questions=(
                Question(
                    seen="The cloud sinks when the gas is thinned.",
                    claim="From 20 to 10 Pa the grains sink by 1.5 mm",
                    why="the sheath grows thicker while the field at a given height weakens",
                    against="A rise, or a change under 0.3 mm, refutes it.",
                    vary="Pressures of 10, 14 and 20 Pa are visited up and down, six times each",
                    trap=(
                        "Grains are lost at each change, so only heights of single grains are used."
                    ),
                ),
                Question(
                    seen="At the rim the lattice looks wider than in its centre.",
                    claim="Spacing grows from 400 to 520 micrometres towards the rim",
                    why="weight presses the cloud to the bottom of a shallow bowl of potential",
                    against="A spacing that is flat within 5 % refutes it.",
                    vary=(
                        "Clouds of 50, 150 and 300 grains are filmed for one minute, five times "
                        "each"
                    ),
                    trap="The lens distorts at the rim, so a printed grid is filmed first.",
                ),
                Question(
                    seen="Waves run through the cloud at low power.",
                    claim="Below 3 W waves of 8 to 12 Hz set in, above 5 W none",
                    why="ions stream faster past grains and feed the instability",
                    against="Waves at 6 W in half of the runs refute it.",
                    vary="Powers of 2, 3, 4 and 6 W are held for two minutes, eight runs each",
                    trap=(
                        "Pump vibration lies near 25 Hz, so an accelerometer is logged and its "
                        "band cut."
                    ),
                ),
                Question(
                    seen="After an hour the same grains float higher.",
                    claim=(
                        "Sputtering shrinks grains by 4 % in an hour, which accounts for the rise"
                    ),
                    why="a lighter grain of nearly the same charge balances higher up",
                    against="Fresh grains put in after an hour that float as high refute it.",
                    vary=(
                        "Heights are taken every ten minutes, and fresh grains are added at 60 "
                        "minutes, in six runs"
                    ),
                    trap="The electrode warms, so its temperature is logged and kept within 1 K.",
                ),
            ),
        ),
        Topic(
            key="arc-sparks",
            subject="spark spectra of alloys",
            setting="A recycling yard sorts aluminium scrap with a closed spark spectrometer.",
            measure="Line ratios of silicon and magnesium are averaged over ten sparks",
            control="argon purge, electrode and gap are kept",
            hazard=(
                "The spark stand is closed and interlocked and its argon is vented outdoors; hot "
                "samples are moved with tongs."
            ),
            careless="Defeat the interlock of the spark stand to work faster.",
            questions=(
                Question(
                    seen="Oily pieces are sorted wrongly.",
                    claim="Wiping cuts wrong sorts from 12 to under 4 %",
                    why="carbon bands of the oil lie under the silicon line",
                    against="A rate above 9 % after wiping refutes it.",
                    vary="Two hundred pieces are sparked oily, wiped and ground, in that order",
                    trap="The order could flatter grinding, so fifty pieces are ground first.",
                ),
                Question(
                    seen="The first sparks of a piece differ from later ones.",
                    claim=(
                        "The first three sparks read 10 % more magnesium than those from the "
                        "sixth on"
                    ),
                    why="magnesium gathers in the oxide skin",
                    against="A difference below 3 % refutes it.",
                    vary="Single sparks 1 to 12 are stored for forty pieces of two alloys",
                    trap=(
                        "The electrode warms, so a warm-up of fifty sparks on waste metal goes "
                        "before."
                    ),
                ),
                Question(
                    seen="Numbers wander from Monday to Friday.",
                    claim="Half of the weekly drift goes away with a clean window",
                    why="metal dust on it dims blue lines most",
                    against="A drift that cleaning lowers by less than a tenth refutes it.",
                    vary=(
                        "Ten reference sparks a day are taken for four weeks, with cleaning in "
                        "weeks two and four"
                    ),
                    trap=(
                        "Room temperature drifts as well, so it is logged and put into the "
                        "regression."
                    ),
                ),
                Question(
                    seen="Thin foil gives high readings.",
                    claim="Below 0.5 mm thickness silicon reads 20 % too high",
                    why="the foil melts through and the plasma burns hotter on the rim",
                    against="Readings within 5 % on 0.2 mm foil refute it.",
                    vary=(
                        "Sheets of one melt rolled to 0.2, 0.5, 1 and 3 mm get fifteen readings "
                        "each"
                    ),
                    trap="Rolling smears the surface, so all are ground with the same paper.",
                ),
            ),
        ),
        Topic(
            key="plasma-seeds",
            subject="plasma-treated mustard seeds",
            setting=(
                "A garden college treats mustard seeds with a closed low-pressure plasma cleaner."
            ),
            measure="Germination is counted every twelve hours on damp paper",
            control="seed lot, paper and water are kept",
            hazard=(
                "The cleaner is interlocked and vented; the seeds are not eaten and go to compost "
                "after the count."
            ),
            careless="Disable the interlock of the cleaner, and eat the treated seeds as a test.",
            questions=(
                Question(
                    seen="Treated seeds swell faster in the first hours.",
                    claim="One minute of treatment raises water uptake in six hours by 20 %",
                    why="the waxy coat becomes wettable",
                    against="Uptake within 5 % of untreated seeds refutes it.",
                    vary="Seeds are treated for 0, 1 and 3 minutes, 100 each in four dishes",
                    trap="Vacuum alone might dry the coat, so one set is pumped without plasma.",
                ),
                Question(
                    seen="Long treatment seems to harm.",
                    claim="Ten minutes lower germination from 95 to under 80 %",
                    why="heat and oxidation reach the germ",
                    against="Germination above 90 % after ten minutes refutes it.",
                    vary="0, 2, 5 and 10 minutes are given to 200 seeds each",
                    trap="Seeds in a heap shade each other, so they lie in one layer.",
                ),
                Question(
                    seen="Old seeds gain more than fresh ones.",
                    claim=(
                        "Seeds of four years gain 12 percentage points, those of one year under 3"
                    ),
                    why="their coat, not their germ, delays them",
                    against="Equal gains within 3 points refute it.",
                    vary="Lots of one, two and four years, treated or not, get 150 seeds a cell",
                    trap="Lots differ in size, so seeds are sieved to 1.8 to 2.0 mm.",
                ),
                Question(
                    seen="Treated dishes show less mould.",
                    claim="Two minutes halve the share of mouldy seeds by day five",
                    why="the discharge kills spores on the coat",
                    against="Shares that differ by less than a fifth refute it.",
                    vary="Sixty dishes of ten seeds, half of them treated, are scored blind",
                    trap=(
                        "Faster germination leaves less time for mould, so age since sprouting is "
                        "noted."
                    ),
                ),
            ),
        ),
    ),
)
