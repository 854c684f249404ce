"""Topics of instruments and measurement. All sentences were written for this example."""

from __future__ import annotations

from parts import Domain, Question, Topic

INSTRUMENTS = Domain(
    name="instruments",
    topics=(
        Topic(
            key="kitchen-scale",
            subject="a strain-gauge kitchen scale",
            setting=(
                "A club opens a kitchen scale with a strain-gauge cell and logs its raw counts."
            ),
            measure="Counts are averaged over ten seconds with a 500 g reference weight",
            control="supply voltage, platform and amplifier are kept",
            hazard=(
                "Only batteries are used; glasses protect from clipped wires while soldering in "
                "moving air."
            ),
            careless="Breathe in the solder fumes, no extraction is needed.",
            questions=(
                Question(
                    seen="The zero wanders in the first quarter of an hour.",
                    claim="Warm-up of the amplifier explains 80 % of a drift of 1.5 g",
                    why="its offset follows temperature by about 0.1 g per kelvin",
                    against=(
                        "If a warmed cell and a cold amplifier show the same drift, it is wrong."
                    ),
                    vary="Cell and amplifier are warmed apart by 10 K, eight runs each",
                    trap="Handling warms both, so a box with a long handle is used.",
                ),
                Question(
                    seen="Loads left overnight read heavier in the morning.",
                    claim="Creep adds 0.4 g to 2 kg in ten hours and leaves over two hours",
                    why="the glue under the gauge flows slowly",
                    against="A change below 0.1 g refutes it.",
                    vary="Loads of 0.5, 1 and 2 kg rest for ten hours, five nights each",
                    trap="The room cools at night, so a dummy cell with no load is logged.",
                ),
                Question(
                    seen="Corners of the platform disagree.",
                    claim="A load 60 mm off centre changes the reading by 0.3 %",
                    why="torque twists a beam that is meant to bend only",
                    against="Differences below 0.05 % refute it.",
                    vary="Nine places on a grid get 500 g six times each",
                    trap="Weights are set by hand, so a printed template guides them.",
                ),
                Question(
                    seen="Near a phone the numbers jump.",
                    claim=(
                        "A call within 10 cm adds noise of 2 g, copper foil brings it below 0.3 g"
                    ),
                    why="the wires act as aerial and the amplifier rectifies",
                    against="Noise above 1 g with foil refutes it.",
                    vary="Foil or none, call or none, are combined in twelve minutes each",
                    trap="A ringing phone shakes the table, so it hangs from a string.",
                ),
            ),
        ),
        Topic(
            key="pinhole-spectrometer",
            subject="a cardboard spectrometer",
            setting="A class builds spectrometers from cardboard, a slit and a piece of grating.",
            measure="Line positions are read from photographs against a fluorescent lamp",
            control="camera, exposure and grating are kept",
            hazard=(
                "The sun is never looked at through it; lamps are viewed at arm's length with a "
                "shade."
            ),
            careless="Look at the sun straight through the slit, and do not wear eye protection.",
            questions=(
                Question(
                    seen="Two green lines merge in some of the boxes.",
                    claim="A slit below 0.2 mm splits lines 2 nm apart, one of 0.5 mm does not",
                    why="the width of the slit's image sets the resolution",
                    against="A split at 0.5 mm in five of ten boxes refutes it.",
                    vary="Slits of 0.1, 0.2 and 0.5 mm are put in ten boxes each",
                    trap="Narrow slits are dim and blur in shaky hands, so boxes are clamped.",
                ),
                Question(
                    seen="The same lamp has other wavelengths in each box.",
                    claim="A tilt of the grating by 2 degrees shifts lines by 6 nm",
                    why="the angle of incidence enters the grating equation",
                    against="A shift below 2 nm refutes it.",
                    vary="Gratings are mounted at 0, 2 and 4 degrees in eight boxes each",
                    trap="Cardboard bends, so the angle is read with a mirror before each picture.",
                ),
                Question(
                    seen="Red seems weaker than the eye tells.",
                    claim="The camera's filter hides 90 % of the light above 680 nm",
                    why="phones block infrared with a coating that begins early",
                    against="A camera that shows over half refutes it.",
                    vary=(
                        "One lamp with a known spectrum is taken by five phones, ten pictures each"
                    ),
                    trap="Automatic exposure mixes things up, so raw pictures are used.",
                ),
                Question(
                    seen="Ghost lines appear beside strong ones.",
                    claim="Black paint inside removes nine tenths of the ghosts",
                    why="light bounces off bare cardboard onto the grating",
                    against="More than a third left after painting refutes it.",
                    vary="Six boxes are pictured bare, with paper and painted",
                    trap=(
                        "Ghosts of the grating itself stay, so it is looked at alone with a "
                        "narrow beam."
                    ),
                ),
            ),
        ),
        Topic(
            key="thermocouple-log",
            subject="a thermocouple logger",
            setting="A greenhouse logs eight thermocouples with a cheap converter.",
            measure="Readings are compared with an ice bath and a calibrated probe",
            control="wire type, length and sampling are kept",
            hazard=(
                "Everything runs at 5 V; hot water is kept below 60 °C and carried in closed "
                "flasks."
            ),
            careless="Carry open pots of boiling water without gloves.",
            questions=(
                Question(
                    seen="All channels jump together at sunrise.",
                    claim="Uneven warming of the terminal block causes over 2 K of it",
                    why="the cold-junction sensor sits 4 cm from the screws",
                    against="A jump that stays when the block is wrapped refutes it.",
                    vary="A bare and a wrapped block are logged for seven mornings each",
                    trap="Sun also warms the tips, so four of them sit in an insulated flask.",
                ),
                Question(
                    seen="One channel is noisy whenever the pump runs.",
                    claim="Twisting the wires cuts the noise from 1.5 to below 0.3 K",
                    why="the loop catches the pump's magnetic field",
                    against="Noise above 1 K with twisted wires refutes it.",
                    vary="Flat and twisted pairs run side by side during forty starts of the pump",
                    trap="The pump moves air, so tips are in closed water bottles.",
                ),
                Question(
                    seen="Old wires read low.",
                    claim="Wires with three winters in wet soil read 0.8 K low at 40 °C",
                    why="corrosion forms a second metal pair along a gradient",
                    against="Errors below 0.2 K in eight of ten wires refute it.",
                    vary="Ten old and ten new wires meet in one bath at 10, 25 and 40 °C",
                    trap="Error depends on where the gradient lies, so immersion depth is varied.",
                ),
                Question(
                    seen="Averages differ from those of the glass thermometer.",
                    claim="Radiation adds 1.5 K to a bare tip at noon and 0.3 K to a shaded one",
                    why="the tip takes up sunlight faster than air cools it",
                    against="Equal readings within 0.3 K in sun refute it.",
                    vary="Bare, white and ventilated tips are compared on ten clear days",
                    trap="Ventilation draws air from elsewhere, so inlets are at the same height.",
                ),
            ),
        ),
        Topic(
            key="sound-level",
            subject="sound-level apps",
            setting="A town asks citizens to measure street noise with phones.",
            measure="Levels of one minute are compared with a class-2 meter beside the phone",
            control="place, height and wind screen are kept",
            hazard=(
                "Streets are dangerous: people stand on the pavement in pairs, and ear plugs are "
                "worn near works."
            ),
            careless="Skip the ear protection near works and stand on the road itself.",
            questions=(
                Question(
                    seen="Phones of one brand read low at night.",
                    claim="Below 40 dB an automatic gain lowers readings by 5 dB",
                    why="software mutes what it takes for background",
                    against="Errors within 2 dB below 40 dB refute it.",
                    vary="Levels from 30 to 80 dB are played to twelve phones, five times each",
                    trap="Rooms have their own noise, so tests are made in a cellar at 25 dB.",
                ),
                Question(
                    seen="A protective case changes what is read.",
                    claim="A case lowers the band above 4 kHz by 6 dB and the total by under 1",
                    why="the opening for the microphone becomes a small tube",
                    against="A total that changes by over 2 dB refutes it.",
                    vary="Ten phones with and without case hear pink noise three times each",
                    trap="Cases shift the position, so a jig holds the microphone.",
                ),
                Question(
                    seen="Rainy days look quiet on the map.",
                    claim="Half of the missing 3 dB is due to fewer and slower cars",
                    why="wet tyres are louder, yet traffic falls by a fifth",
                    against="If counts per hour do not fall, it is wrong.",
                    vary="Twenty wet and twenty dry hours are counted and measured at two streets",
                    trap="Drops hit the phone, so it stands under a roof.",
                ),
                Question(
                    seen="Two people with the same phone disagree by 4 dB.",
                    claim="A hand around the lower edge explains over 3 dB",
                    why="it covers the opening of the microphone",
                    against="A gap over 3 dB on a tripod refutes it.",
                    vary="Six pairs hold phones low, high and on a tripod, ten minutes each",
                    trap="Bodies shade sound, so all face the street at arm's length.",
                ),
            ),
        ),
        Topic(
            key="balloon-camera",
            subject="a camera on a tethered balloon",
            setting="A field course takes pictures of a river bank from a tethered helium balloon.",
            measure="Position errors are found at twenty marked stones known to 2 cm",
            control="camera, height and overlap are kept",
            hazard=(
                "The tether is kept away from power lines and people, gloves are worn, and "
                "flights end above 5 m/s of wind."
            ),
            careless="Skip the gloves and the risk assessment, and fly near the power lines.",
            questions=(
                Question(
                    seen="Maps bulge in the middle like a dish.",
                    claim="Adding six oblique pictures cuts the bulge from 15 to below 4 cm",
                    why="lens error and height are told apart only by other angles",
                    against="A bulge over 10 cm with oblique pictures refutes it.",
                    vary="Eight flights are computed with 0, 3 and 6 oblique pictures",
                    trap=(
                        "More pictures help by number alone, so six more vertical ones are a "
                        "control."
                    ),
                ),
                Question(
                    seen="Gusty flights give blurred stones.",
                    claim="An exposure of 1/1000 s brings blur below one pixel up to 4 m/s of wind",
                    why="the camera swings by about half a metre a second",
                    against="Blur over two pixels at 1/1000 s refutes it.",
                    vary=(
                        "Exposures of 1/250, 1/500 and 1/1000 s are switched every minute on six "
                        "flights"
                    ),
                    trap="Short exposures are noisy, so light is kept above 10,000 lux.",
                ),
                Question(
                    seen="Wet sand is mapped too low.",
                    claim="Matching fails on 20 % of wet sand and biases height by 6 cm",
                    why="reflections move with the camera",
                    against="A bias below 2 cm refutes it.",
                    vary="Stones on wet and dry sand, ten each, are mapped on five evenings",
                    trap="The bank settles when wet, so stones stand on buried plates.",
                ),
                Question(
                    seen="Morning flights agree better than those at noon.",
                    claim="Long shadows add matches and lower the error by a third",
                    why="texture of pebbles shows when the sun is low",
                    against="Equal errors within a tenth refute it.",
                    vary="Flights at 8, 10 and 12 h are made on seven days",
                    trap="Wind grows toward noon, so only flights below 3 m/s are used.",
                ),
            ),
        ),
    ),
)
