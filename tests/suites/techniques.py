"""The options that choose a technique: what they take and refuse, and what the server says of itself."""
from harness.checks import check, check_program, expect, expect_each, together
from harness.stages import STAGES

# The values that are in force without options.
DEFAULTS = {4: {"wait": "spin"}, 5: {"trigger": "level"}, 6: {"flavor": "stackless"}}

# What each stage refuses, and a word that its error must contain.
WRONG = {
    1: [("--workers 2", ""), ("--threads 2", "")],
    2: [("--workers 0", "512"), ("--workers 513", "512"), ("--workers x", ""), ("--workers", ""), ("--threads 2", ""),
        ("--timeout 5", "--workers"), ("--max-requests 5", "--workers"), ("--max-clients 5 --workers 2", "--workers"),
        ("--timeout -1 --workers 2", "0"), ("--timeout x --workers 2", ""), ("--max-requests -1 --workers 2", "0"),
        ("--max-requests 1.5 --workers 2", "")],
    3: [("--threads 0", "4096"), ("--threads 4097", "4096"), ("--threads x", ""), ("--workers 2", "--threads"),
        ("--workers 0 --threads 2", "512"), ("--workers 513 --threads 2", "512"), ("--max-clients 5 --threads 2", "--threads"),
        ("--timeout 5", "")],
    4: [("--wait epoll", "select"), ("--wait", ""), ("--workers 2", "")],
    5: [("--trigger both", "edge"), ("--trigger", ""), ("--workers 0", "512"), ("--workers 513", "512"), ("--pool 2", "")],
    6: [("--pool -1", "256"), ("--pool 257", "256"), ("--pool x", ""), ("--workers 0", "512"), ("--flavor sweet", "stackful"),
        ("--flavor", ""), ("--pool 2 --flavor stackful", "--flavor"), ("--trigger edge", "")],
}


@check_program("techniques", only=lambda stage: not stage.options)
def a_wrong_value_or_combination_is_status_2(program):
    def row(command_line, hint):
        options = command_line.split()
        finished = program.run(*options)
        expect((finished.status, finished.stdout), (2, ""), "status and standard output")
        expect([word for word in (options[0], hint) if word not in finished.stderr], [],
               f"what {finished.stderr!r} does not name")

    expect_each(WRONG[program.stage.number], row)


@check("techniques", ours=True)
def a_server_tells_which_options_are_in_force(server):
    options = server.http("GET", "/server").json["options"]
    given = {name[2:]: int(value) if value.isdigit() else value
             for name, value in zip(server.stage.options[::2], server.stage.options[1::2])}
    expected = {**DEFAULTS.get(server.stage.number, {}), **given}
    expect({name: options.get(name) for name in expected}, expected, f"of the options {options}")


@check_program("techniques", only=lambda stage: stage.options and any(value.isdigit() for value in stage.options))
def a_number_may_have_zeros_before_it(program):
    zeros = program.stage.with_options(*[f"00{value}" if value.isdigit() else value for value in program.stage.options])
    options = program.start(stage=zeros).http("GET", "/server").json["options"]
    given = {name[2:]: int(value) for name, value in zip(zeros.options[::2], zeros.options[1::2]) if value.isdigit()}
    expect({name: options.get(name) for name in given}, given, f"of the options {options}")


@check_program("techniques", only=lambda stage: not stage.options)
def each_has_a_description_of_its_own(program):
    rows = [stage for stage in STAGES if stage.number == program.stage.number]
    techniques = []
    for stage in rows:
        server = program.start(stage=stage)
        techniques.append(server.http("GET", "/server").json["technique"])
        expect(server.stop(), 0)
    expect(len(set(techniques)), len(rows), f"different descriptions in {techniques}")


@check_program("techniques", only=lambda stage: stage.listens_alone)
def options_can_be_combined(program):
    combined = {5: [("--trigger", "edge")], 6: [("--pool", "0"), ("--flavor", "stackful")]}
    for options in combined[program.stage.number]:
        server = program.start(stage=program.stage.with_options(*program.stage.options, *options))
        a_server_tells_which_options_are_in_force(server)
        storm = [server.connect() for _ in range(20)]
        together(*[lambda client=client: client.send("sleep 0.1\n" + "6\n" * 500) for client in storm])
        for client in storm:
            expect(client.lines(501), ["slept: 0.1"] + ["fib: 8"] * 500)
        expect(len({client.loop() for client in storm}), 2, "loops that served")
        expect(server.stop(), 0)


@check_program("start")
def kill_with_the_pid_file_is_a_clean_stop(program):
    server = program.start("--pid-file", "server.pid")
    client = server.connect()
    client.send("sleep 0.5\n")
    client.wait_until_read()
    expect(program.shell('kill "$(cat server.pid)"'), 0, "the status of kill")
    expect(client.rest(), b"slept: 0.5\n")
    expect(server.wait(), 0, "the exit status")
    expect((program.directory / "server.pid").exists(), False, "the pid file is still there")
