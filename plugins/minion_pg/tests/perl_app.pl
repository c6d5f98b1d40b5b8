#!/usr/bin/env perl
# An application with Perl's Minion, for its own commands: perl_app.pl minion worker, perl_app.pl minion job ...
use Mojolicious::Lite -signatures;

plugin Minion => {Pg => $ENV{PERL_QUEUE_URL}};
app->log->level('fatal');
app->minion->add_task(add => sub ($job, @numbers) { my $sum = 0; $sum += $_ for @numbers; $job->finish($sum) });
app->minion->add_task(who => sub ($job, @) { $job->finish('perl') });
app->start;
