"""Faults injected into running gateways, on real sockets and processes.

Where each fault is held; what an area tests itself is not repeated here:

=====  ==========================================  =====================================================
fault  what happens                                held by
=====  ==========================================  =====================================================
1      bad file under load                         test_reloads, control/test_reload
2-4    wrong meaning, partial write, odd files     config/test_wrong_values, test_files; control/test_reload
5      ConfigMap swaps                             test_reloads, control/test_reload
6      200 SIGHUP                                  test_reloads, processes/test_signals
7      SIGUSR1 under load                          test_processes (4 workers), processes/test_signals; bench
8      1,000 SIGUSR1, start-up race                processes/test_signals
9      restart while latched                       processes/test_restarts, latch/
10     what must not unlatch                       test_reloads
11     kill -9 of a worker                         test_processes, processes/test_deaths
12     kill -9 of control or main process          test_processes, processes/test_deaths
27     treatment hangs                             test_treatments
28     refused, reset, cut, blackholed             test_upstreams
29     answers that crawl                          test_upstreams
30     flapping treatment                          test_breaker, test_treatments; bench.faults flapping
31     both arms down, then back                   test_upstreams
32     no local ports left                         test_networks, test_shortages
33     no descriptors left                         test_shortages
34     slow readers of a fast upstream             test_slow_clients; bench.faults memory
35     very many event streams                     test_streams (2,000); bench.faults streams (10,000)
36     names that move, fail, stall                test_names
37     kept connections that end                   test_upstreams
38     own graceful end                            test_processes, processes/test_signals
39     slow clients                                test_slow_clients, http/test_limits
40     missing data                                rollout_wiring/test_promises
41     good metrics after a rollback               rollout_wiring/test_promises
43     busy and hostile admin clients              test_processes, control/test_admin
44     sticky over workers and restarts            test_reloads, split/test_stickiness
45     an exception in every background task       control/test_controller
48     a link that loses packets                   test_networks
49     kill -9 during accept                       test_processes
50     soak                                        bench.faults soak
=====  ==========================================  =====================================================
"""
